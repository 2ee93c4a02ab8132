use super::*;

/// The visible options of each command.
fn options() -> Vec<(String, Vec<String>)> {
    let mut all = command();
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
            // After .TP comes the heading of an entry, then its text.
            let heading = format!("\\fB{}\\fR", long.replace('-', "\\-"));
            let entry = lines.windows(3).find(|lines| lines[0] == ".TP" && lines[1].contains(&heading));
            let text = entry.unwrap_or_else(|| panic!("{name}: no {long} in {}", page.text))[2];
            assert!(text.len() > 5 && !text.starts_with('.'), "{name} {long}: {text}");
        }
        let written = name.replace('-', "\\-");
        assert!(page.text.contains(&format!(".SH EXAMPLES\n.nf\nparing {written}")), "{name} has no examples");
        assert!(page.text.contains(&format!("\\fBparing {written}\\fR")), "{name}: no usage");
        assert!(pages[0].text.contains(&format!("paring\\-{written}(1)")), "{name} is not in the page of paring");
    }
    assert!(pages[0].text.contains("EXIT STATUS"));
    assert!(pages.iter().all(|page| page.text.is_ascii()));
}

#[test]
fn scripts_know_every_option_and_no_alias() {
    let script = |shell| super::script(shell).unwrap();
    let bash = script(Shell::Bash);
    for (name, longs) in options() {
        let case = format!("        paring__subcmd__{})\n            opts=\"", name.replace('-', "__subcmd__"));
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
    let args = ManArgs { command: Some("fly".into()), out: None, overwrite: false };
    let error = man(&args).unwrap_err();
    let text = error.text();
    assert!(error.code == crate::MISUSE && text.contains("man fly") && text.contains("quantize"), "{text}");
}

#[test]
fn help_says_all_and_fits_80_columns() {
    let mut all = command().term_width(80);
    all.build();
    for command in std::iter::once(&all).chain(all.get_subcommands()) {
        let (name, text) = (command.get_name(), command.clone().render_long_help().to_string());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        if name == "help" {
            continue;
        }
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help().is_some(), "{name}: {} says nothing", arg.get_id());
        }
        // Wrapped examples could not be pasted.
        let examples = command.get_after_long_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
            assert!(text.lines().any(|shown| shown == line), "{name}: {line} is wrapped in {text}");
        }
    }
}
