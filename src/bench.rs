//! `spool bench`: what this machine does, printed as a table and as JSON. Ratios are taken within one run.

mod batch;
mod dispatch;
mod encode;
mod rules;
mod sim;
mod start;

use clap::Subcommand;

use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Encode a film with Spool and with the installed ffmpeg, in turns
    Encode(encode::EncodeBenchArgs),
    /// Hand out calls that do nothing, each layer apart
    Dispatch(dispatch::DispatchArgs),
    /// Run short calls through executors, handed over in batches and each alone, in turns
    Batch(batch::BatchArgs),
    /// Start calls in executors that are warm and in cold ones, in turns, and a whole worker
    Start(start::StartArgs),
    /// Run jobs whose workflow is rules and jobs of one phase, in turns
    Rules(rules::RulesArgs),
    /// Play a day of a fleet in seconds: the real engine in virtual time
    Sim(sim::SimArgs),
}

pub async fn run(command: BenchCommand) -> anyhow::Result<Exit> {
    match command {
        BenchCommand::Encode(args) => encode::run(&args).await?,
        BenchCommand::Dispatch(args) => dispatch::run(&args).await?,
        BenchCommand::Batch(args) => batch::run(&args).await?,
        BenchCommand::Start(args) => start::run(&args).await?,
        BenchCommand::Rules(args) => rules::run(&args).await?,
        BenchCommand::Sim(args) => return sim::run(args).await,
    }
    Ok(Exit::Done)
}

/// The middle one; of an even number the lower.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// `percent` of the values are at most this.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_are_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
        let values: Vec<u64> = (0..200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)), (100, 198, 199));
        assert_eq!(percentile(&[], 50), 0);
    }
}
