//! A slot map with ids of our own: the key type of the `slotmap` crate stays out of the public interface.

use core::ops::{Index, IndexMut};
use slotmap::{DefaultKey, Key};

/// An id that [`SlotMap`] gives out.
pub(crate) trait Id: Copy {
    fn from_key(key: DefaultKey) -> Self;
    fn key(self) -> DefaultKey;

    /// Whether it is the default id, which belongs to no entry.
    #[inline]
    fn is_null(self) -> bool {
        self.key().is_null()
    }

    /// The index of its slot. A slot is used again after its entry was removed.
    #[inline]
    fn slot(self) -> u32 {
        self.key().data().as_ffi() as u32
    }
}

/// Defines id types.
macro_rules! id_type {
    ($($(#[$doc:meta])* pub struct $id:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// The default value is the id of nothing.
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $id(slotmap::DefaultKey);

        impl $id {
            /// The index of its slot, for tables of the embedding program: a small number that no other live id of its
            /// type has. It is used again once the id has become invalid.
            #[inline]
            pub fn slot(self) -> usize {
                $crate::collections::slots::Id::slot(self) as usize
            }
        }

        impl core::fmt::Debug for $id {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({:?})", stringify!($id), slotmap::Key::data(&self.0))
            }
        }

        impl $crate::collections::slots::Id for $id {
            #[inline]
            fn from_key(key: slotmap::DefaultKey) -> Self {
                Self(key)
            }

            #[inline]
            fn key(self) -> slotmap::DefaultKey {
                self.0
            }
        }
    )*};
}
pub(crate) use id_type;

/// A map from ids to values. An id is never given out twice.
#[derive(Clone, Debug)]
pub(crate) struct SlotMap<I, T> {
    slots: slotmap::SlotMap<DefaultKey, T>,
    id: core::marker::PhantomData<I>,
}

impl<I: Id, T> SlotMap<I, T> {
    pub fn new() -> Self {
        Self { slots: slotmap::SlotMap::with_key(), id: core::marker::PhantomData }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub fn get(&self, id: I) -> Option<&T> {
        self.slots.get(id.key())
    }

    #[inline]
    pub fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.slots.get_mut(id.key())
    }

    pub fn contains_key(&self, id: I) -> bool {
        self.slots.contains_key(id.key())
    }

    pub fn insert(&mut self, value: T) -> I {
        I::from_key(self.slots.insert(value))
    }

    pub fn insert_with_key(&mut self, make: impl FnOnce(I) -> T) -> I {
        I::from_key(self.slots.insert_with_key(|key| make(I::from_key(key))))
    }

    pub fn remove(&mut self, id: I) -> Option<T> {
        self.slots.remove(id.key())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.slots.iter_mut().map(|(key, value)| (I::from_key(key), value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.slots.iter().map(|(key, value)| (I::from_key(key), value))
    }
}

impl<I: Id, T> Index<I> for SlotMap<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, id: I) -> &T {
        &self.slots[id.key()]
    }
}

impl<I: Id, T> IndexMut<I> for SlotMap<I, T> {
    #[inline]
    fn index_mut(&mut self, id: I) -> &mut T {
        &mut self.slots[id.key()]
    }
}
