//! Which room an object of a media worker is in: workers' events name the object only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::room::Room;

/// Rooms by worker and object.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<HashMap<u16, HashMap<String, Weak<Room>>>>);

impl Index {
    pub(super) fn insert(&self, worker: u16, id: &str, room: &Arc<Room>) {
        self.lock().entry(worker).or_default().insert(id.to_owned(), Arc::downgrade(room));
    }

    pub(super) fn remove(&self, worker: u16, id: &str) {
        if let Some(objects) = self.lock().get_mut(&worker) {
            objects.remove(id);
        }
    }

    /// The worker is gone, with all its objects.
    pub(super) fn remove_worker(&self, worker: u16) {
        self.lock().remove(&worker);
    }

    /// What was in the room is gone.
    pub(super) fn remove_room(&self, worker: u16, room: &Arc<Room>) {
        if let Some(objects) = self.lock().get_mut(&worker) {
            objects.retain(|_, other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(room)));
        }
    }

    pub(super) fn room(&self, worker: u16, id: &str) -> Option<Arc<Room>> {
        self.lock().get(&worker)?.get(id)?.upgrade()
    }

    /// How many objects it knows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, HashMap<String, Weak<Room>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
