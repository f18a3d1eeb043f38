//! How the server's seats are divided among the levels: by shares, and then by demand, since levels lend and borrow
//! (KEP-1040).

/// No target is smaller, so that nothing is divided by nothing.
const LEAST: f64 = 0.001;

/// What a level may have and wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) least: f64,
    pub(super) target: f64,
    pub(super) most: f64,
}

/// A level's limits in seats, by its shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) nominal: u32,
    /// What is left when all that may be lent is lent.
    pub(super) least: u32,
    /// What it may have when others lend.
    pub(super) most: u32,
}

impl Limits {
    pub(super) fn of(server: u32, shares: u64, all: u64, lendable: u64, borrowing: Option<u64>) -> Self {
        let part = |whole: f64, percent: u64| (whole * percent as f64 / 100.0).round() as u32;
        // Rounding up makes the sum of all a little larger than it should be, as upstream does.
        let nominal = (f64::from(server) * shares as f64 / (all as f64).max(1.0)).ceil() as u32;
        let borrowed = borrowing.map_or(server, |percent| part(f64::from(nominal), percent));
        let lent = part(f64::from(nominal), lendable.min(100));
        Self { nominal, least: nominal - lent.min(nominal), most: nominal.saturating_add(borrowed) }
    }
}

/// Divides `sum` seats: everybody gets the same fraction of what it wants, but neither less nor more than it may.
/// Returns what each gets and the fraction.
pub(super) fn divide(sum: f64, wishes: &[Wish]) -> (Vec<f64>, f64) {
    let given = |fraction: f64| {
        wishes.iter().map(move |wish| (fraction * wish.target.max(LEAST)).clamp(wish.least, wish.most.max(wish.least)))
    };
    let total = |fraction: f64| given(fraction).sum::<f64>();
    // What is given grows with the fraction, so the fraction is found between bounds.
    let highest = wishes.iter().map(|wish| wish.most / wish.target.max(LEAST)).fold(0.0, f64::max);
    let (mut low, mut high) = (0.0, highest);
    if total(high) <= sum {
        return (given(high).collect(), high);
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if total(middle) < sum { low = middle } else { high = middle }
    }
    (given(high).collect(), high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(least: f64, target: f64, most: f64) -> Wish {
        Wish { least, target, most }
    }

    #[test]
    fn the_default_levels_have_the_seats_that_upstream_gives_them() {
        let seats = |shares, lendable| {
            let Limits { nominal, least, most } = Limits::of(600, shares, 245, lendable, None);
            (nominal, least, most)
        };
        assert_eq!(seats(40, 25), (98, 73, 698));
        assert_eq!(seats(100, 90), (245, 24, 845));
        assert_eq!(seats(20, 50), (49, 24, 649));
        assert_eq!(seats(5, 0), (13, 13, 613));
        assert_eq!(Limits::of(600, 20, 245, 0, Some(50)).most, 74);
        assert_eq!(Limits::of(600, 0, 245, 0, None), Limits { nominal: 0, least: 0, most: 600 });
    }

    #[test]
    fn who_needs_little_lends_and_who_needs_much_borrows() {
        let (given, fraction) = divide(100.0, &[wish(10.0, 10.0, 200.0), wish(50.0, 150.0, 200.0)]);
        assert!((given[0] - 10.0).abs() < 1e-6 && (given[1] - 90.0).abs() < 1e-6, "{given:?}");
        assert!((fraction - 0.6).abs() < 1e-6);
        let (given, _) = divide(100.0, &[wish(10.0, 10.0, 200.0), wish(10.0, 10.0, 30.0)]);
        assert!((given[0] - 70.0).abs() < 1e-6 && (given[1] - 30.0).abs() < 1e-6, "{given:?}");
    }

    proptest! {
        #[test]
        fn all_is_given_within_bounds(
            sum in 1.0..1000.0_f64,
            wishes in prop::collection::vec((0.0..50.0_f64, 0.0..300.0_f64, 0.0..900.0_f64), 1..10),
        ) {
            let wishes: Vec<_> = wishes.iter().map(|(l, t, m)| wish(*l, l + t, l + m)).collect();
            let (given, _) = divide(sum, &wishes);
            for (given, wish) in given.iter().zip(&wishes) {
                prop_assert!(*given >= wish.least && *given <= wish.most);
            }
            let least: f64 = wishes.iter().map(|wish| wish.least).sum();
            let most: f64 = wishes.iter().map(|wish| wish.most).sum();
            let total: f64 = given.iter().sum();
            prop_assert!((total - sum.clamp(least, most)).abs() < 1e-3, "{} of {}", total, sum);
        }
    }
}
