//! Which part of which chunk a value gets: the arena's bookkeeping, pure.
//!
//! A *chunk* is a mapping of 64 units of 4 KiB. A *slab* is a run of units cut into equal *slots* of one
//! size class; there are eight classes to a doubling, so that a value wastes at most a ninth of its slot.
//! All of it lies outside of the chunks: a freed slot holds zeroes and nothing else.

/// What a slab's length is counted in. The operating system's page may be larger.
pub(super) const UNIT_BYTES: usize = 4_096;
/// Units of a chunk; one bit of a `u64` each.
const CHUNK_UNITS: usize = 64;
/// The smallest slot: a slab of one unit then has 64, one bit of a `u64` each.
const LEAST_BYTES: usize = 64;
/// Values above this have a slab of their own.
const CLASSED_BYTES: usize = 16 * 1_024;
/// Size classes from 64 bytes to 16 KiB.
const CLASSES: usize = 65;

/// The slot of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    slab: u32,
    slot: u32,
}

/// Where a slot lies: `offset` bytes into chunk `chunk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) chunk: u32,
    pub(super) offset: usize,
}

/// What is in use and what is free.
pub(super) struct Slabs {
    chunks: Table<Chunk>,
    slabs: Table<Slab>,
    /// By size class, the slabs that have a free slot.
    open: [Vec<u32>; CLASSES],
    /// How many chunks have no slab.
    empty_chunks: usize,
}

struct Chunk {
    /// A bit for each unit that no slab has.
    free: u64,
    /// One value larger than a chunk: the chunk is its slab.
    large: bool,
}

struct Slab {
    chunk: u32,
    first_unit: usize,
    shape: Shape,
    /// A bit for each slot that no value has.
    free: u64,
    /// Where it stands in `open`, while a slot is free.
    nth_open: usize,
}

/// How a slab is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Its size class; none for a value with a slab of its own.
    class: Option<usize>,
    slot_bytes: usize,
    slots: u32,
    units: usize,
}

impl Shape {
    /// The shape for values of `len` bytes.
    fn of(len: usize) -> Self {
        if len > CLASSED_BYTES {
            let units = len.div_ceil(UNIT_BYTES);
            return Self { class: None, slot_bytes: units.saturating_mul(UNIT_BYTES), slots: 1, units };
        }
        let (class, slot_bytes) = class_of(len);
        // The shortest slab that wastes at most a sixteenth at its end: 16 units always do.
        let wastes_little = |units: &usize| (units * UNIT_BYTES % slot_bytes) * 16 <= units * UNIT_BYTES;
        let units = (1..16).find(|units| units * UNIT_BYTES >= slot_bytes && wastes_little(units)).unwrap_or(16);
        let slots = u32::try_from(units * UNIT_BYTES / slot_bytes).unwrap_or(64).min(64);
        Self { class: Some(class), slot_bytes, slots, units }
    }
}

/// The size class of `len` (at most [`CLASSED_BYTES`]), and its slot's size.
fn class_of(len: usize) -> (usize, usize) {
    if len <= LEAST_BYTES {
        return (0, LEAST_BYTES);
    }
    let doubling = (len - 1).ilog2();
    let step = 1 << (doubling - 3);
    let slot_bytes = len.next_multiple_of(step);
    let doublings = (doubling - LEAST_BYTES.ilog2()) as usize;
    (doublings * 8 + (slot_bytes - (1 << doubling)) / step, slot_bytes)
}

/// The lowest `count` bits.
const fn ones(count: u32) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// The first of `count` adjacent bits that are set in `free`.
fn run_of(free: u64, count: usize) -> Option<usize> {
    let starts = (1..count.min(65)).fold(free, |starts, by| if by < 64 { starts & (free >> by) } else { 0 });
    (starts != 0).then_some(starts.trailing_zeros() as usize)
}

impl Slabs {
    pub(super) const fn new() -> Self {
        Self { chunks: Table::new(), slabs: Table::new(), open: [const { Vec::new() }; CLASSES], empty_chunks: 0 }
    }

    /// How many bytes a chunk must have for a value of `len` bytes.
    pub(super) fn chunk_bytes(len: usize) -> usize {
        Shape::of(len).units.max(CHUNK_UNITS).saturating_mul(UNIT_BYTES)
    }

    /// Adds a chunk of `chunk_bytes(len)`, and gives its number.
    pub(super) fn add_chunk(&mut self, len: usize) -> u32 {
        self.empty_chunks += 1;
        self.chunks.insert(Chunk { free: u64::MAX, large: Shape::of(len).units > CHUNK_UNITS })
    }

    /// A slot for `len` bytes; none when a chunk has to be added first.
    pub(super) fn take(&mut self, len: usize) -> Option<(Place, Spot)> {
        let shape = Shape::of(len);
        let open = shape.class.and_then(|class| self.open.get(class)?.last().copied());
        let number = match open {
            Some(number) => number,
            None => self.cut_slab(shape)?,
        };
        let slab = self.slabs.get_mut(number)?;
        let slot = slab.free.trailing_zeros();
        slab.free &= slab.free.wrapping_sub(1);
        let offset = slab.first_unit * UNIT_BYTES + slot as usize * slab.shape.slot_bytes;
        let spot = Spot { chunk: slab.chunk, offset };
        if slab.free == 0 {
            self.close(number);
        }
        Some((Place { slab: number, slot }, spot))
    }

    /// Takes a slot back. Gives the number of a chunk that is to be unmapped, if one is: it is forgotten here.
    pub(super) fn give_back(&mut self, place: Place) -> Option<u32> {
        let slab = self.slabs.get_mut(place.slab)?;
        let was_full = slab.free == 0;
        slab.free |= 1 << place.slot;
        if slab.free == ones(slab.shape.slots) {
            if !was_full {
                self.close(place.slab);
            }
            return self.drop_slab(place.slab);
        }
        if was_full {
            self.reopen(place.slab);
        }
        None
    }

    fn cut_slab(&mut self, shape: Shape) -> Option<u32> {
        let large = shape.units > CHUNK_UNITS;
        let (number, chunk, first_unit) = self.chunks.iter_mut().find_map(|(number, chunk)| {
            let first = run_of(chunk.free, shape.units.min(CHUNK_UNITS))?;
            (chunk.large == large).then_some((number, chunk, first))
        })?;
        self.empty_chunks -= usize::from(chunk.free == u64::MAX);
        chunk.free &= !Self::units_of(shape, first_unit);
        let slab = Slab { chunk: number, first_unit, shape, free: ones(shape.slots), nth_open: 0 };
        let number = self.slabs.insert(slab);
        self.reopen(number);
        Some(number)
    }

    /// Forgets an empty slab, and its chunk if that is empty too and not the one that is kept in reserve.
    fn drop_slab(&mut self, number: u32) -> Option<u32> {
        let slab = self.slabs.remove(number)?;
        let chunk = self.chunks.get_mut(slab.chunk)?;
        chunk.free |= Self::units_of(slab.shape, slab.first_unit);
        if chunk.free != u64::MAX {
            return None;
        }
        if !chunk.large && self.empty_chunks == 0 {
            self.empty_chunks = 1;
            return None;
        }
        self.chunks.remove(slab.chunk).map(|_| slab.chunk)
    }

    fn units_of(shape: Shape, first_unit: usize) -> u64 {
        let count = u32::try_from(shape.units).unwrap_or(u32::MAX);
        ones(count) << first_unit
    }

    fn reopen(&mut self, number: u32) {
        let Some(slab) = self.slabs.get_mut(number) else { return };
        let Some(open) = slab.shape.class.and_then(|class| self.open.get_mut(class)) else { return };
        slab.nth_open = open.len();
        open.push(number);
    }

    fn close(&mut self, number: u32) {
        let Some(slab) = self.slabs.get_mut(number) else { return };
        let nth = slab.nth_open;
        let Some(open) = slab.shape.class.and_then(|class| self.open.get_mut(class)) else { return };
        if nth < open.len() {
            open.swap_remove(nth);
        }
        // The slab that took its place has moved.
        let moved = open.get(nth).copied();
        if let Some(moved) = moved.and_then(|moved| self.slabs.get_mut(moved)) {
            moved.nth_open = nth;
        }
    }
}

/// Things by number; a number is used again once its thing is gone.
struct Table<T> {
    things: Vec<Option<T>>,
    unused: Vec<u32>,
}

impl<T> Table<T> {
    const fn new() -> Self {
        Self { things: Vec::new(), unused: Vec::new() }
    }

    fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.unused.pop()
            && let Some(place) = self.things.get_mut(number as usize)
        {
            *place = Some(thing);
            return number;
        }
        self.things.push(Some(thing));
        // 2^32 slabs are 16 TiB.
        u32::try_from(self.things.len() - 1).unwrap_or(u32::MAX)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.things.get_mut(number as usize)?.as_mut()
    }

    fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.things.get_mut(number as usize)?.take()?;
        self.unused.push(number);
        Some(thing)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(&mut self.things).filter_map(|(number, thing)| Some((number, thing.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_wastes_at_most_a_ninth_and_a_slab_a_sixteenth() {
        let mut classes = BTreeSet::new();
        for len in 65..=CLASSED_BYTES {
            let shape = Shape::of(len);
            assert!(shape.slot_bytes >= len && (shape.slot_bytes - len) * 9 <= shape.slot_bytes, "{len} {shape:?}");
            let used = shape.slots as usize * shape.slot_bytes;
            let slab = shape.units * UNIT_BYTES;
            assert!(used <= slab && (slab - used) * 16 <= slab, "{len} {shape:?}");
            classes.insert(shape.class.unwrap());
        }
        assert_eq!(classes, (1..CLASSES).collect());
    }

    #[test]
    fn a_slot_that_comes_and_goes_adds_no_chunk_and_returns_none() {
        let mut slabs = Slabs::new();
        slabs.add_chunk(1_500);
        for _ in 0..10_000 {
            let (place, _) = slabs.take(1_500).unwrap();
            assert_eq!(slabs.give_back(place), None);
        }
    }

    proptest! {
        #[test]
        fn slots_never_overlap_and_empty_chunks_are_returned(
            steps in proptest::collection::vec((any::<bool>(), prop_oneof![0..200_usize, 0..20_000_usize, 0..600_000_usize], any::<usize>()), 1..400)
        ) {
            let mut slabs = Slabs::new();
            let mut chunks = BTreeMap::new();
            let mut live: Vec<(Place, Spot, usize)> = Vec::new();
            let give_back = |slabs: &mut Slabs, chunks: &mut BTreeMap<u32, usize>, place| {
                if let Some(chunk) = slabs.give_back(place) {
                    assert!(chunks.remove(&chunk).is_some());
                }
            };
            for (take, len, which) in steps {
                if take || live.is_empty() {
                    let (place, spot) = slabs.take(len).unwrap_or_else(|| {
                        let chunk = slabs.add_chunk(len);
                        assert_eq!(chunks.insert(chunk, Slabs::chunk_bytes(len)), None);
                        slabs.take(len).unwrap()
                    });
                    prop_assert!(spot.offset + len <= chunks[&spot.chunk]);
                    for (_, other, other_len) in live.iter().filter(|(_, other, _)| other.chunk == spot.chunk) {
                        prop_assert!(spot.offset + len.max(1) <= other.offset || other.offset + (*other_len).max(1) <= spot.offset);
                    }
                    live.push((place, spot, len));
                } else {
                    let (place, spot, _) = live.swap_remove(which % live.len());
                    give_back(&mut slabs, &mut chunks, place);
                    prop_assert!(live.iter().all(|(_, other, _)| chunks.contains_key(&other.chunk)), "{spot:?}");
                }
            }
            for (place, _, _) in live {
                give_back(&mut slabs, &mut chunks, place);
            }
            prop_assert!(chunks.len() <= 1, "one empty chunk is kept, no more");
        }
    }
}
