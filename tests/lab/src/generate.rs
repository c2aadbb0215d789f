//! What follows from the command line, so that each text stands once, where clap has it: the
//! shells' completions, the settings file, and of the manual pages (man/*.md) what stands there as
//! `{{MARKS}}`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};
use clap_complete::{Shell, generate_to};
use patroni_check::cli;
use patroni_check::endpoint::{Endpoint, Kind};
use patroni_check::haproxy::reply::{Reply, ReplyFormat, ReplyPolicy};
use patroni_check::verdict::{Sessions, Verdict};
use patroni_check::view::{OnFailure, OnStandby};

const SETTINGS: &str = "\
# Settings of patroni-check. Each option of the program has a line here. The texts are those of
# `patroni-check --help`.
#
# A comment is a line of its own, because what follows a value belongs to the value. An empty value
# means the default. A wrong value or a misspelt name keeps the service from starting. So try the
# settings first, then restart the service. The restart loses no check.
#
#     patroni-check explain --settings
#     systemctl restart patroni-check.service
";

/// Writes to three directories: the shells' completions, the settings file `default`, and the
/// sources of the manual pages.
pub fn write(completions: &Path, settings: &Path, pages: &Path) -> Result<(), Box<dyn Error>> {
    for directory in [completions, settings, pages] {
        fs::create_dir_all(directory)?;
    }
    let command = cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "patroni-check", completions)?;
    }
    // The name under which bash looks for it.
    fs::rename(completions.join("patroni-check.bash"), completions.join("patroni-check"))?;
    fs::write(settings.join("default"), settings_file(&command))?;
    let source = |page: &str| fs::read_to_string(crate::repository().join("man").join(page));
    let page = |page: &str, text: String| fs::write(pages.join(page), text);
    page("patroni-check.8.md", manual_page(&command, source("patroni-check.8.md")?)?)?;
    page("patroni-check.socket.5.md", source("patroni-check.socket.5.md")?)?;
    Ok(())
}

/// The options' lines, each a comment, with what each means above it.
fn settings_file(command: &Command) -> String {
    let mut file = SETTINGS.to_owned();
    let known: Vec<_> = options(command).filter_map(|arg| Some((arg.get_long()?, variable(arg)?))).collect();
    let wrap = textwrap::Options::new(100).initial_indent("# ").subsequent_indent("# ").break_words(false);
    let wrap = wrap.word_splitter(textwrap::WordSplitter::NoHyphenation);
    for arg in options(command) {
        let Some(name) = variable(arg) else { continue };
        let mut text = help(arg).join("\n\n");
        for (long, variable) in &known {
            text = text.replace(&format!("--{long}"), variable);
        }
        let comment: Vec<_> = text.split("\n\n").map(|paragraph| textwrap::fill(paragraph, &wrap)).collect();
        let value = if is_flag(arg) { "no".to_owned() } else { default(arg).unwrap_or_default() };
        let _ = write!(file, "\n{}\n#{name}={value}\n", comment.join("\n#\n"));
    }
    file
}

/// The page with its marks replaced.
fn manual_page(command: &Command, mut page: String) -> Result<String, String> {
    let after = command.get_after_long_help().map(StyledStr::to_string).unwrap_or_default();
    let (environment, statuses) = after.split_once("\n\n").ok_or("two paragraphs after --help are expected")?;
    let marks = [
        ("{{SYNOPSIS}}", synopsis(command)),
        ("{{ENVIRONMENT}}", prose(environment)),
        ("{{OPTIONS}}", options(command).map(|arg| definition(arg, "")).collect()),
        ("{{COMMANDS}}", command.get_subcommands().map(subcommand).collect()),
        ("{{ENDPOINTS}}", endpoints()),
        ("{{REPLIES}}", replies()?),
        ("{{EXIT STATUS}}", exit_statuses(statuses, "")),
    ];
    for (mark, text) in marks {
        let (before, after) =
            page.split_once(mark).ok_or_else(|| format!("man/patroni-check.8.md: {mark} is missing"))?;
        page = format!("{before}{}{after}", text.trim_end());
    }
    Ok(page)
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help" && long != "version"))
}

fn variable(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_str()?.to_owned())
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn default(arg: &Arg) -> Option<String> {
    Some(arg.get_default_values().first()?.to_str()?.to_owned()).filter(|_| !is_flag(arg))
}

/// The paragraphs of `--help`; the first is that of `-h`, as a sentence, and what explains it.
fn help(arg: &Arg) -> Vec<String> {
    paragraphs(arg.get_long_help().or(arg.get_help()))
}

fn paragraphs(text: Option<&StyledStr>) -> Vec<String> {
    let text = text.map(StyledStr::to_string).unwrap_or_default();
    let text = text.replacen("\n\n", ". ", 1);
    let text = if text.ends_with('.') { text } else { text + "." };
    text.split("\n\n").map(str::to_owned).collect()
}

/// An option, as pandoc's Markdown has definitions.
fn definition(arg: &Arg, indent: &str) -> String {
    let mut term = format!("**\\--{}**", arg.get_long().unwrap_or_default());
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| format!("**{}**", value.get_name())).collect();
    if !values.is_empty() && !is_flag(arg) {
        term += &format!(" {}", values.join("|"));
    } else if let (false, Some(names)) = (is_flag(arg), arg.get_value_names()) {
        term += &format!(" *{}*", names.join(" "));
    }
    let mut paragraphs: Vec<_> = help(arg).iter().map(|paragraph| prose(paragraph)).collect();
    if let (Some(last), Some(default)) = (paragraphs.last_mut(), default(arg)) {
        *last += &format!(" Default: **{}**.", escaped(&default));
    }
    definition_of(&term, &paragraphs, indent)
}

fn definition_of(term: &str, paragraphs: &[String], indent: &str) -> String {
    format!("{indent}{term}\n{indent}:   {}\n\n", paragraphs.join(&format!("\n\n{indent}    ")))
}

fn synopsis(command: &Command) -> String {
    let line = |usage: &str| format!("**patroni-check**{usage}\n\n");
    let commands = command.get_subcommands().map(|command| line(&format!(" {}", usage(command))));
    line(" [*option* ...]") + &commands.collect::<String>()
}

fn usage(command: &Command) -> String {
    let mut usage = format!("**{}**", command.get_name());
    if options(command).next().is_some() {
        usage += " [*option* ...]";
    }
    for arg in command.get_positionals() {
        let name = arg.get_value_names().map_or("", |names| names[0].as_str());
        usage += &if arg.is_required_set() { format!(" *{name}*") } else { format!(" [*{name}* ...]") };
    }
    usage
}

fn subcommand(command: &Command) -> String {
    let text = paragraphs(command.get_long_about().or(command.get_about()));
    let mut paragraphs: Vec<_> = text.iter().map(|paragraph| prose(paragraph)).collect();
    paragraphs.extend(command.get_after_long_help().map(|text| exit_statuses(&text.to_string(), "    ")));
    let options: String = options(command).map(|arg| definition(arg, "    ")).collect();
    definition_of(&usage(command), &paragraphs, "") + &options
}

/// A heading and a line for each status, those that go on indented by more.
fn exit_statuses(text: &str, indent: &str) -> String {
    let (heading, statuses) = text.split_once(":\n").unwrap_or((text, ""));
    let mut list = format!("{}:\n", prose(heading));
    for line in statuses.lines() {
        match line.strip_prefix("     ") {
            Some(rest) => list += &format!(" {}", prose(rest)),
            None => {
                let (status, meaning) = line.trim_start().split_once("  ").unwrap_or((line, ""));
                list += &format!("\n\n{indent}**{status}**\n{indent}:   {}", prose(meaning));
            }
        }
    }
    list
}

/// The endpoints by what a node must be to take their traffic, each with the version of Patroni
/// that it needs.
fn endpoints() -> String {
    let kinds = [
        (Kind::Primary, "The primary that holds the leader lock"),
        (Kind::Leader, "The holder of the leader lock, in a standby cluster, too"),
        (Kind::StandbyLeader, "The holder of the leader lock of a standby cluster"),
        (Kind::Reads, "A node for reads: its role, its lag and its tags decide"),
        (Kind::Health, "A node whose Postgres runs, in any role"),
        (Kind::Probe, "A node for which Kubernetes' probe succeeds"),
    ];
    let name = |endpoint: Endpoint| match endpoint.since() {
        (0, 0, 0) => format!("**{endpoint}**"),
        (major, minor, 0) => format!("**{endpoint}** ({major}.{minor})"),
        (major, minor, patch) => format!("**{endpoint}** ({major}.{minor}.{patch})"),
    };
    let definition = |(kind, meaning): (Kind, &str)| {
        let names: Vec<_> = Endpoint::all().filter(|endpoint| endpoint.kind() == kind).map(name).collect();
        definition_of(meaning, &[escaped_underscores(&names.join(", "))], "")
    };
    kinds.map(definition).concat()
}

fn escaped_underscores(text: &str) -> String {
    text.replace('_', "\\_")
}

/// What each kind of node is answered, in either format.
fn replies() -> Result<String, String> {
    use {OnFailure as F, OnStandby as S};
    let reason = || "reason".to_owned();
    let lags = || Verdict::StandBy(reason(), Sessions::MayStay);
    let fail = || Verdict::Fail(reason());
    let table = [
        ("may take the traffic", Verdict::Serve(reason()), None, None),
        ("stands by, on-standby maint", lags(), Some(S::Maint), None),
        ("           on-standby drain", lags(), Some(S::Drain), None),
        ("              wrong role", Verdict::stand_by(reason()), Some(S::Drain), None),
        ("           on-standby down", lags(), Some(S::Down), None),
        ("is broken, on-failure maint", fail(), None, Some(F::Maint)),
        ("           on-failure down", fail(), None, Some(F::Down)),
        ("           on-failure drain", fail(), None, Some(F::Drain)),
        ("           on-failure silent", fail(), None, Some(F::Silent)),
        ("is held", Verdict::held("why", Sessions::Cut), None, None),
        ("         and drained", Verdict::held("why", Sessions::MayStay), None, None),
    ];
    let mut text = format!("    {:29} {:22} {}\n", "the node", "full", "plain");
    let replica = "/replica".parse()?;
    for (node, verdict, on_standby, on_failure) in table {
        let reply = |format| match ReplyPolicy::new(&replica, format, on_standby, on_failure) {
            Ok(policy) => policy.reply(&verdict).as_ref().map_or("nothing".to_owned(), Reply::to_string),
            Err(_) => "refused".to_owned(),
        };
        let _ = writeln!(text, "    {node:29} {:22} {}", reply(ReplyFormat::Full), reply(ReplyFormat::Plain));
    }
    Ok(text)
}

/// Text of `--help` as Markdown: what stands between backticks is bold there.
fn prose(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.split('`').map(escaped).enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("**{part}**") } else { part }).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\*_<>[]#~^$@|".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped.replace("--", "\\--")
}
