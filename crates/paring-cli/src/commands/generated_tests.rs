use clap::CommandFactory;

use super::*;

/// The visible options of each command.
fn options() -> Vec<(String, Vec<String>)> {
    let mut all = Cli::command();
    all.build();
    let longs = |command: &Command| {
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        shown.filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))).collect()
    };
    let commands = all.get_subcommands().filter(|command| command.get_name() != "help");
    commands.map(|command| (command.get_name().to_string(), longs(command))).collect()
}

#[test]
fn pages_describe_every_option_of_every_command() {
    let (pages, options) = (pages().unwrap(), options());
    assert!(options.len() >= 12 && pages.len() == options.len() + 1);
    for (name, longs) in options {
        let page = pages.iter().find(|page| page.name == format!("paring-{name}")).expect(&name);
        let lines: Vec<&str> = page.text.lines().collect();
        for long in longs {
            // Behind .TP comes the heading of an entry, then its text.
            let heading = format!("\\fB{}\\fR", long.replace('-', "\\-"));
            let entry = lines.windows(3).find(|lines| lines[0] == ".TP" && lines[1].contains(&heading));
            let text = entry.unwrap_or_else(|| panic!("{name}: no {long} in {}", page.text))[2];
            assert!(text.len() > 5 && !text.starts_with('.'), "{name} {long}: {text}");
        }
        assert!(page.text.contains(".SH EXAMPLES\n.nf\nparing "), "{name} has no examples");
        assert!(page.text.contains(&format!("\\fBparing {name}\\fR")), "{name}: no usage");
        assert!(pages[0].text.contains(&format!("paring\\-{name}(1)")), "{name} is not in the page of paring");
    }
    assert!(pages[0].text.contains("EXIT STATUS"));
    assert!(pages.iter().all(|page| page.text.is_ascii()) && pages.iter().any(|page| page.text.contains("\\[u2026]")));
}

#[test]
fn scripts_know_every_option_and_no_alias() {
    let script = |shell| super::script(shell).unwrap();
    let bash = script(Shell::Bash);
    for (name, longs) in options() {
        let case = format!("        paring__subcmd__{name})\n            opts=\"");
        let from = bash.find(&case).expect(&name) + case.len();
        let words: Vec<&str> = bash[from..].split('"').next().unwrap().split(' ').collect();
        longs.iter().for_each(|long| assert!(words.contains(&long.as_str()), "{name}: {long} is not in {words:?}"));
    }
    for (shell, option) in [
        (Shell::Bash, "--wbits)"),
        (Shell::Zsh, "'--wbits=["),
        (Shell::Fish, "-l wbits "),
        (Shell::Elvish, "cand --wbits "),
        (Shell::PowerShell, "'--wbits'"),
    ] {
        let text = script(shell);
        assert!(text.contains(option) && text.contains("quantize"), "{shell}");
        // Other spellings are for scripts that exist, not for people who type.
        for alias in ["--save", "-l save", "qq_scale", "true_sequential"] {
            assert!(!text.contains(alias), "{shell}: {alias}");
        }
    }
    // Numbers are no files.
    let (_, wbits) = bash.split_once("--wbits)\n").unwrap();
    assert!(wbits.trim_start().starts_with("COMPREPLY=(\"${cur}\")"), "{}", &wbits[..80]);
}

#[test]
fn a_page_that_is_not_there_is_named() {
    let args = ManArgs { command: Some("fly".into()), out: None };
    let error = man(&args).unwrap_err();
    assert!(matches!(&error, Error::Misuse(text) if text.contains("man fly") && text.contains("quantize")), "{error}");
}
