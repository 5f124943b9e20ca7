//! A cache by its keys alone: which are kept, by which policy.

mod sketch;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use self::sketch::Sketch;
use super::Nanos;

/// What is kept when there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// What was used last.
    #[default]
    Lru,
    /// What was used last, but nothing new that is asked for less often than what would have to go (TinyLFU, Einziger and
    /// others, 2017).
    TinyLfu,
}

/// Objects of one size.
#[derive(Clone, Debug)]
pub struct Cache {
    capacity: usize,
    fresh_for: Nanos,
    /// By object, the number of its last use and until when it is fresh.
    kept: HashMap<u32, (u64, Nanos)>,
    /// By the number of the last use.
    used: BTreeMap<u64, u32>,
    uses: u64,
    sketch: Option<Sketch>,
}

impl Cache {
    /// Room for so many objects, which are fresh so long.
    pub fn new(capacity: usize, keep: Keep, fresh_for: Nanos) -> Self {
        let sketch = (keep == Keep::TinyLfu && capacity > 0).then(|| Sketch::new(capacity));
        Self { capacity, fresh_for, kept: HashMap::new(), used: BTreeMap::new(), uses: 0, sketch }
    }

    /// Whether it is there and fresh.
    pub fn look_up(&mut self, object: u32, now: Nanos) -> bool {
        if let Some(sketch) = &mut self.sketch {
            sketch.count(object);
        }
        match self.kept.get(&object) {
            Some((_, until)) if *until <= now => {
                self.remove(object);
                false
            }
            Some((_, until)) => {
                let until = *until;
                self.touch(object, until);
                true
            }
            None => false,
        }
    }

    /// Keeps it, when the policy wants it.
    pub fn admit(&mut self, object: u32, now: Nanos) {
        let until = now.saturating_add(self.fresh_for);
        if self.kept.contains_key(&object) {
            return self.touch(object, until);
        }
        if self.capacity == 0 {
            return;
        }
        if self.kept.len() == self.capacity {
            let Some(oldest) = self.used.first_key_value().map(|(_, object)| *object) else { return };
            if self.sketch.as_ref().is_some_and(|sketch| sketch.estimate(object) <= sketch.estimate(oldest)) {
                return;
            }
            self.remove(oldest);
        }
        self.touch(object, until);
    }

    /// Forgets one.
    pub fn remove(&mut self, object: u32) {
        if let Some((used, _)) = self.kept.remove(&object) {
            self.used.remove(&used);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.used.clear();
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn touch(&mut self, object: u32, until: Nanos) {
        self.uses += 1;
        if let Some((before, _)) = self.kept.insert(object, (self.uses, until)) {
            self.used.remove(&before);
        }
        self.used.insert(self.uses, object);
    }
}

/// The part of the requests that an LRU cache answers, by Che's approximation (Che, Tung and Wang, 2002): an object stays
/// for the same time after its last use, which is that at which the expected number of objects kept is the capacity.
pub fn che(parts: &[f64], capacity: usize) -> f64 {
    if capacity >= parts.len() {
        return 1.0;
    }
    let kept = |time: f64| parts.iter().map(|part| 1.0 - (-part * time).exp()).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while kept(high) < capacity as f64 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if kept(middle) < capacity as f64 { low = middle } else { high = middle }
    }
    parts.iter().map(|part| part * (1.0 - (-part * high).exp())).sum()
}

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::super::popular::Popular;
    use super::*;
    use proptest::prelude::*;

    fn hit_ratio(keep: Keep, popular: &Popular, capacity: usize, requests: u32) -> f64 {
        let mut cache = Cache::new(capacity, keep, Nanos::MAX);
        let mut chance = Chance::new(11, 2);
        let mut hits = 0.0;
        for request in 0..requests {
            let object = popular.draw(&mut chance);
            let hit = cache.look_up(object, 0);
            hits += f64::from(u8::from(hit && request >= requests / 4));
            if !hit {
                cache.admit(object, 0);
            }
        }
        hits / f64::from(requests - requests / 4)
    }

    #[test]
    fn the_hit_ratio_of_an_lru_cache_is_within_two_points_of_ches() {
        for exponent in [0.6, 0.8, 1.0, 1.2] {
            for capacity in [50, 500, 2000] {
                let popular = Popular::zipf(10_000, exponent);
                let (seen, told) = (hit_ratio(Keep::Lru, &popular, capacity, 400_000), che(popular.parts(), capacity));
                assert!((seen - told).abs() < 0.02, "{exponent} {capacity}: {seen} and not {told}");
            }
        }
    }

    #[test]
    fn tiny_lfu_keeps_what_is_popular_better_than_lru_and_no_better_than_the_best() {
        let popular = Popular::zipf(10_000, 0.9);
        let best: f64 = popular.parts()[..500].iter().sum();
        let lru = hit_ratio(Keep::Lru, &popular, 500, 400_000);
        let lfu = hit_ratio(Keep::TinyLfu, &popular, 500, 400_000);
        assert!(lfu > lru + 0.05 && lfu < best + 0.005, "{lru} {lfu} {best}");
    }

    #[test]
    fn what_is_no_longer_fresh_is_no_hit() {
        let mut cache = Cache::new(2, Keep::Lru, 10);
        cache.admit(1, 0);
        assert!(cache.look_up(1, 9));
        assert!(!cache.look_up(1, 10));
        assert!(cache.is_empty());
    }

    proptest! {
        #[test]
        fn an_lru_cache_is_a_list_with_the_last_used_in_front(
            capacity in 0..8_usize, asked in prop::collection::vec(0..12_u32, 1..200)
        ) {
            let (mut cache, mut model) = (Cache::new(capacity, Keep::Lru, Nanos::MAX), Vec::new());
            for object in asked {
                let at = model.iter().position(|kept| *kept == object);
                prop_assert_eq!(cache.look_up(object, 0), at.is_some());
                at.map(|at| model.remove(at));
                model.insert(0, object);
                model.truncate(capacity);
                cache.admit(object, 0);
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}
