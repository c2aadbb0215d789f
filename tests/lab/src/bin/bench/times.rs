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

    pub fn quantile(&self, share: f64) -> f64 {
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
