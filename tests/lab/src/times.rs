//! What many measurements come to.

use std::error::Error;
use std::time::Duration;

/// Many times of the same thing.
#[derive(Default)]
pub struct Times(pub Vec<Duration>);

impl Times {
    pub fn of(count: usize, mut one: impl FnMut() -> Result<Duration, Box<dyn Error>>) -> Result<Self, Box<dyn Error>> {
        (0..count).map(|_| one()).collect::<Result<_, _>>().map(Times)
    }

    /// In seconds. No number where there is none.
    pub fn quantile(&self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let mut sorted: Vec<f64> = self.0.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((sorted.len() - 1) as f64 * share).round() as usize;
        sorted[index]
    }

    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Median and extremes.
pub fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

pub fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

/// How fast something grows: k of y = c·xᵏ, by least squares of the logarithms. Nothing where
/// there are less than two different x, or a value that has no logarithm.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    if points.iter().any(|(x, y)| *x <= 0.0 || *y <= 0.0) {
        return None;
    }
    let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    #[expect(clippy::cast_precision_loss)]
    let count = points.len() as f64;
    let (x_mean, y_mean) = (logs().map(|(x, _)| x).sum::<f64>() / count, logs().map(|(_, y)| y).sum::<f64>() / count);
    let above: f64 = logs().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let below: f64 = logs().map(|(x, _)| (x - x_mean).powi(2)).sum();
    (below > 1e-12).then(|| above / below)
}

#[test]
fn the_exponent_of_what_grows() {
    type Law = fn(f64) -> f64;
    let points = |law: Law| -> Vec<_> { [1.0, 3.0, 10.0, 1000.0].map(|x| (x, law(x))).into() };
    let table: [(Law, f64); 4] =
        [(|x| 40.0 * x, 1.0), (|_| 7.0, 0.0), (|x| 0.1 * x * x, 2.0), (|x| 5.0 / x.sqrt(), -0.5)];
    for (law, k) in table {
        let found = exponent(&points(law)).expect("a law");
        assert!((found - k).abs() < 1e-9, "{found} is not {k}");
    }
    // Between the slopes, and nearer to that which more points have.
    let found = exponent(&[(1.0, 1.0), (10.0, 10.0), (100.0, 100.0), (1000.0, 100.0)]).expect("a law");
    assert!((found - 0.7).abs() < 1e-9, "{found}");
    for none in
        [&[][..], &[(1.0, 2.0)], &[(3.0, 1.0), (3.0, 2.0)], &[(0.0, 1.0), (1.0, 2.0)], &[(1.0, 1.0), (2.0, 0.0)]]
    {
        assert_eq!(exponent(none), None, "{none:?}");
    }
}
