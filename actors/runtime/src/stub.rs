//! Stands for an actor of another process: passes every message to a function, which sends it there.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use std::marker::PhantomData;

struct Stub<M, F>(PhantomData<fn(M, F)>);

impl<M: ractor::Message, F: FnMut(M) + Send + Sync + 'static> Actor for Stub<M, F> {
    type Msg = M;
    type State = F;
    type Arguments = F;

    async fn pre_start(&self, _: ActorRef<M>, pass: F) -> Result<F, ActorProcessingErr> {
        Ok(pass)
    }

    async fn handle(&self, _: ActorRef<M>, message: M, pass: &mut F) -> Result<(), ActorProcessingErr> {
        pass(message);
        Ok(())
    }
}

/// An actor that passes every message on, as a child of `parent`.
///
/// # Errors
/// The parent is ending.
pub async fn spawn<M: ractor::Message>(
    parent: ActorCell,
    pass: impl FnMut(M) + Send + Sync + 'static,
) -> Result<ActorRef<M>, SpawnErr> {
    Ok(Actor::spawn_linked(None, Stub(PhantomData), pass, parent).await?.0)
}
