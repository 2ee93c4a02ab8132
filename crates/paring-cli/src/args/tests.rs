use clap::CommandFactory;
use paring::plan::Opt;

use super::Cli;

#[test]
fn options_that_libraries_name_can_be_typed() {
    let program = Cli::command();
    let longs = program.get_subcommands().flat_map(|command| command.get_arguments()).filter_map(|arg| arg.get_long());
    let longs: std::collections::BTreeSet<&str> = longs.collect();
    let unknown: Vec<&str> = Opt::ALL.iter().map(|option| option.name()).filter(|name| !longs.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
