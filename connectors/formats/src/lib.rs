//! Text, CSV and JSON formats for hurtig
