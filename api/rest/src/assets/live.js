// Puts changed regions of the page in their place, as the server sends them. The page works without.
(() => {
  if (!window.EventSource) return;
  const state = document.getElementById("live-state");
  const show = (text, bad) => {
    state.textContent = text;
    state.classList.toggle("lost", bad);
  };
  const replace = (region, html) => {
    const selection = document.getSelection();
    // Whoever marks text wants to copy it.
    if (selection && !selection.isCollapsed && region.contains(selection.anchorNode)) return;
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const link = focused && focused.getAttribute("href");
    const scrolled = [...region.querySelectorAll(".scroll, .graph")].map((box) => box.scrollLeft);
    region.innerHTML = html;
    [...region.querySelectorAll(".scroll, .graph")].forEach((box, at) => { box.scrollLeft = scrolled[at] || 0; });
    if (focused) {
      const again = link ? [...region.querySelectorAll("a")].find((a) => a.getAttribute("href") === link)
        : region.querySelector("[tabindex]");
      if (again) again.focus({ preventScroll: true });
    }
  };
  const source = new EventSource("/web/live?page=" + encodeURIComponent(location.pathname));
  source.onmessage = (event) => {
    const { id, html } = JSON.parse(event.data);
    const region = document.getElementById(id);
    if (region) replace(region, html);
  };
  source.addEventListener("beat", () => show("live", false));
  source.addEventListener("lost", (event) => show(event.data, true));
  source.onerror = () => show("no connection", true);
})();
