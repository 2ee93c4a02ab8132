//! The command that lists the tasks.

use paring::{Error, Result};
use paring_tasks::table::{self, Group, Task};
use serde_json::{Value, json};

use crate::args::TasksArgs;
use crate::show::{self, Answer, Failure};

/// The table of tasks and groups, or those whose names contain what was typed.
pub fn tasks(args: &TasksArgs) -> Result<Answer, Failure> {
    let name = args.name.as_deref().unwrap_or_default();
    let group = table::group(name);
    let is_asked = |task: &&Task| match group {
        Some(group) => group.tasks.contains(&&*task.name),
        None => task.name.contains(name),
    };
    let tasks: Vec<&Task> = table::tasks().iter().filter(is_asked).collect();
    let groups: Vec<&Group> = table::groups().iter().filter(|group| group.name.contains(name)).collect();
    if tasks.is_empty() {
        return Err(Error::Misuse(format!("no task has {name} in its name; `paring tasks` lists all")).into());
    }
    let is_grouped = |task: &Task| table::groups().iter().any(|group| group.tasks.contains(&&*task.name));
    let mut lines = Vec::new();
    // All subjects of MMLU are too many to read.
    for task in tasks.iter().filter(|task| !name.is_empty() || !is_grouped(task)) {
        lines.push(task.name.to_string());
        lines.extend(entries(task));
    }
    for group in &groups {
        lines.push(group.name.to_string());
        let text =
            format!("{} as one: {}, …; `paring tasks {}` lists them", counted(group), group.tasks[0], group.name);
        lines.push(show::entry("tasks", &text));
    }
    let tasks: Vec<Value> = tasks.iter().map(|task| object(task)).collect();
    let groups = groups.iter().map(|group| json!({"group": group.name, "tasks": group.tasks}));
    Ok(Answer::new(&json!({"tasks": tasks, "groups": groups.collect::<Vec<_>>()}))?.lines(lines))
}

/// The tasks of a group, and their documents.
fn counted(group: &Group) -> String {
    let documents = group.tasks.iter().filter_map(|name| table::find(name)).map(|task| task.documents).sum::<usize>();
    format!("{} tasks with {documents} documents", group.tasks.len())
}

/// The data of a task and its metrics.
fn entries(task: &Task) -> Vec<String> {
    let (documents, split) = (task.documents, task.split);
    let place = match task.source.repository() {
        Some((repo, "default")) => repo.to_string(),
        Some((repo, config)) => format!("{repo}, {config}"),
        None => task.name.to_string(),
    };
    let by = task.version.map_or("rouge_score, with stems".into(), |version| format!("version {version:.1}"));
    vec![
        show::entry("data", &format!("{place}: {documents} documents of {split}")),
        show::entry("metrics", &format!("{} ({by})", task.kind.metrics().join(", "))),
    ]
}

fn object(task: &Task) -> Value {
    let (repo, config) = task.source.repository().unzip();
    json!({
        "task": task.name,
        "repository": repo,
        "config": config,
        "split": task.split,
        "documents": task.documents,
        "metrics": task.kind.metrics(),
        "version": task.version,
    })
}
