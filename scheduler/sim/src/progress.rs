//! A bar on the terminal, where standard error is one.

use indicatif::{ProgressBar, ProgressStyle};

/// How much is done.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for what is called `name` and counted in `unit`; nothing where standard error is no terminal.
    #[must_use]
    pub fn new(name: &str, unit: &str) -> Self {
        let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left"));
        // Units are plain words, so the template can be read.
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar.with_message(name.to_owned()))
    }

    /// So many of so many are done.
    pub fn show(&self, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
