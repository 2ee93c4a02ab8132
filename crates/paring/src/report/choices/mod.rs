//! The choices of a plan by the names of the options that make them. A plan in a report may come from anywhere: what is not
//! as a plan of ours has it is shown by its path.

mod read;

use serde_json::Value;

use super::difference::leaves;
use crate::plan::{Curvature, METHODS, MethodInfo, Opt};
use read::{FORMAT, GIVEN, Place, RECIPE, RUN, grids};

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The option; `None` for inputs, and for what no option makes.
    pub option: Option<Opt>,
    /// The option's name, or another one.
    pub name: String,
    /// Its value; empty for a switch.
    pub value: String,
}

/// Choices of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The treatment of weights.
    pub recipe: Vec<Choice>,
    /// Everything else that an option says.
    pub run: Vec<Choice>,
    /// Linears that are treated in another way.
    pub overrides: Vec<Exception>,
    /// Values without an option, by their paths in the plan.
    pub rest: Vec<Choice>,
}

/// Linears that are treated in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Their names or patterns.
    pub targets: String,
    /// The choices that differ; `None` where the linears are not compressed.
    pub recipe: Option<Vec<Choice>>,
}

impl Choice {
    fn new(option: Opt, value: String) -> Self {
        Self { option: Some(option), name: option.name().to_string(), value }
    }

    /// True for a setting of the sweep that was left as it is.
    pub fn is_default(&self) -> bool {
        match self.option {
            Some(Opt::Percdamp) => self.value == "0.01",
            Some(Opt::BlockSize) => self.value == "128",
            _ => false,
        }
    }

    /// The choice as it is typed, where `spell` writes an option's name: `--wbits 4`, `--sym`, `--perchannel=false`.
    pub fn spelled(&self, spell: impl Fn(&str) -> String) -> String {
        let name = if self.option.is_some() { spell(&self.name) } else { self.name.clone() };
        match self.value.as_str() {
            "" => name,
            "false" => format!("{name}=false"),
            value => format!("{name} {value}"),
        }
    }
}

impl Choices {
    /// The choices of a plan as a report has it.
    pub fn of(plan: &Value) -> Self {
        let mut rest = plan.clone();
        let mut choices = Self { recipe: recipe(&mut rest, "recipe"), ..Self::default() };
        for (path, name) in [("model", "model"), ("dataset", "calibration data")] {
            if let Some(Value::String(text)) = at(&rest, path) {
                let value = text.clone();
                choices.run.push(Choice { option: None, name: name.into(), value });
                forget(&mut rest, path);
            }
        }
        let at_once = at(&rest, "true_sequential") == Some(&Value::Bool(false));
        let calibrates = at(&rest, "nsamples").and_then(Value::as_u64).is_some_and(|windows| windows > 0);
        if at_once && calibrates && choices.value(Opt::Published).is_none() {
            choices.run.push(Choice::new(Opt::TrueSequential, "false".into()));
        }
        let has_stream = at(&rest, "dense_stream").is_some_and(|stream| !stream.is_null());
        let moves = choices.method().is_some_and(|method| method.curvature == Curvature::Full)
            || [Opt::Refit, Opt::Mask]
                .iter()
                .any(|option| choices.value(*option).is_some_and(|value| value != "false"));
        if !has_stream && calibrates && moves && choices.value(Opt::Published).is_none() {
            choices.run.push(Choice::new(Opt::DenseStream, "none".into()));
        }
        choices.run.extend(taken(&mut rest, "", &[FORMAT]));
        choices.run.extend(taken(&mut rest, "", &RUN));
        for i in 0..at(&rest, "overrides").and_then(Value::as_array).map_or(0, Vec::len) {
            choices.overrides.extend(exception(&mut rest, &format!("overrides.{i}"), &choices.recipe));
        }
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        let left = leaves(&rest).into_iter().filter(|(_, value)| !nothing(value));
        choices.rest = left.map(|(name, value)| Choice { option: None, name, value: plain(&value) }).collect();
        choices
    }

    /// All of them except those for some of the linears: inputs, the recipe, and everything else.
    pub fn all(&self) -> impl Iterator<Item = &Choice> {
        let (inputs, run): (Vec<&Choice>, Vec<&Choice>) = self.run.iter().partition(|choice| choice.option.is_none());
        inputs.into_iter().chain(&self.recipe).chain(run).chain(&self.rest)
    }

    /// Those that say what the run did to the weights, without the ones that are as they are by default.
    pub fn scheme(&self) -> impl Iterator<Item = &Choice> {
        self.recipe.iter().filter(|choice| !choice.is_default())
    }

    /// The value of a recipe's option.
    pub fn value(&self, option: Opt) -> Option<&str> {
        self.recipe.iter().find(|choice| choice.option == Some(option)).map(|choice| choice.value.as_str())
    }

    /// The method, if it is one of ours.
    pub fn method(&self) -> Option<&'static MethodInfo> {
        let name = self.value(Opt::Method)?;
        METHODS.iter().find(|method| method.name == name).copied()
    }

    /// True if some of the weights were removed.
    pub fn prunes(&self) -> bool {
        let removes =
            |choices: &[Choice]| choices.iter().any(|c| [Some(Opt::Pattern), Some(Opt::Sparsity)].contains(&c.option));
        self.has_masks()
            || removes(&self.recipe)
            || self.overrides.iter().any(|other| other.recipe.as_deref().is_some_and(removes))
    }

    /// True if masks were given.
    pub fn has_masks(&self) -> bool {
        self.run.iter().any(|choice| choice.option == Some(Opt::Masks))
    }

    /// The treatment that errors are compared with, which ignores the inputs.
    pub fn baseline(&self) -> &'static str {
        let rounds = [Opt::Wbits, Opt::Scheme].iter().any(|option| self.value(*option).is_some());
        match (self.prunes(), rounds) {
            (true, true) if self.has_masks() => "the masks alone and plain rounding",
            (true, false) if self.has_masks() => "the masks alone",
            (true, true) => "magnitude pruning and plain rounding",
            (true, false) => "magnitude pruning",
            (false, _) => "plain rounding",
        }
    }

    /// The treatment of the weights in a few words: `3-bit GPTQ in groups of 32`. Empty where the plan has none.
    pub fn words(&self) -> String {
        let method = self.method().map_or_else(|| self.value(Opt::Method).unwrap_or_default(), |method| method.title);
        let groups = match self.value(Opt::GroupSize) {
            Some("-1") => " per row".to_string(),
            Some(size) => format!(" in groups of {size}"),
            None => String::new(),
        };
        let rounding = self.value(Opt::Wbits).map(|bits| format!("{bits}-bit"));
        let rounding = rounding.or_else(|| self.value(Opt::Scheme).map(String::from));
        let share = |share: &str| share.parse::<f64>().map_or(share.into(), |share| format!("{:.3}", 100.0 * share));
        let removal = self.value(Opt::Pattern).map(String::from);
        let removal = removal.or_else(|| {
            let percent = share(self.value(Opt::Sparsity)?);
            Some(format!("{} %", percent.trim_end_matches('0').trim_end_matches('.')))
        });
        let words = match (removal, rounding) {
            (Some(removal), Some(rounding)) => format!("{removal} {method}, {rounding}{groups}"),
            (Some(removal), None) => format!("{removal} {method}"),
            (None, Some(rounding)) => format!("{rounding} {method}{groups}"),
            (None, None) => method.to_string(),
        };
        let words = if self.has_masks() { format!("{words} under given masks") } else { words };
        if self.overrides.is_empty() { words } else { format!("{words}, mixed") }
    }
}

/// The choices of the recipe at this path, which are removed from the plan.
fn recipe(plan: &mut Value, path: &str) -> Vec<Choice> {
    let mut found = Vec::new();
    let method = at(plan, &format!("{path}.method")).and_then(Value::as_str).map(String::from);
    if let Some(method) = &method {
        found.push(Choice::new(Opt::Method, method.clone()));
        forget(plan, &format!("{path}.method"));
    }
    let weights = at(plan, &format!("{path}.rounding.weights"));
    if let Some(choices) = weights.and_then(|weights| grids(weights, at(plan, &format!("{path}.input")))) {
        found.extend(choices);
        forget(plan, &format!("{path}.rounding.weights"));
        forget(plan, &format!("{path}.input"));
    }
    // The share of outliers is a field of the choice, not of its recipe.
    if let Some(share) =
        path.strip_suffix("recipe").and_then(|front| at(plan, &format!("{front}outlier_share"))).cloned()
        && let Some(recipe) = at_mut(plan, path).and_then(Value::as_object_mut)
    {
        recipe.insert("outlier_share".into(), share);
        forget(plan, &format!("{}outlier_share", path.trim_end_matches("recipe")));
    }
    let given = at(plan, &format!("{path}.pattern")).is_some_and(|pattern| pattern == GIVEN);
    found.extend(taken(plan, path, &RECIPE));
    let method = method.and_then(|method| METHODS.iter().find(|known| known.name == method));
    match method.filter(|method| method.curvature == Curvature::Full) {
        Some(method) => found.extend(left_as_published(&found, method.spqr, given)),
        None => found.retain(|choice| ![Some(Opt::Percdamp), Some(Opt::BlockSize)].contains(&choice.option)),
    }
    found
}

/// The options that keep the published code's way where the defaults of a recipe with these choices are others: one for all
/// of them, or those that this recipe needs.
fn left_as_published(choices: &[Choice], spqr: bool, given: bool) -> Vec<Choice> {
    let has =
        |options: &[Opt]| options.iter().any(|option| choices.iter().any(|choice| choice.option == Some(*option)));
    let mut improved: Vec<(Opt, &str)> = Vec::new();
    if has(&[Opt::Wbits, Opt::Scheme]) {
        // SpQR has an order of its own, and no search of grids that all rows share.
        improved.extend((!spqr).then_some((Opt::ActOrder, "none")));
        improved.extend((!spqr || !has(&[Opt::PerChannel])).then_some((Opt::Scales, "minmax")));
    }
    if has(&[Opt::Pattern, Opt::Sparsity]) {
        improved.extend([(Opt::Mask, "sparsegpt"), (Opt::Refit, "false")]);
    }
    if given {
        improved.push((Opt::Refit, "false"));
    }
    let left: Vec<&(Opt, &str)> = improved.iter().filter(|(option, _)| !has(&[*option])).collect();
    match left.len() == improved.len() && !left.is_empty() {
        true => vec![Choice::new(Opt::Published, String::new())],
        false => left.into_iter().map(|(option, value)| Choice::new(*option, value.to_string())).collect(),
    }
}

/// The override at this path, with the choices that differ from `usual` ones. `None` where it is none of ours.
fn exception(plan: &mut Value, path: &str, usual: &[Choice]) -> Option<Exception> {
    let targets = at(plan, &format!("{path}.targets"))?.as_array()?;
    let targets = targets.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join(" ");
    let compressed = !at(plan, &format!("{path}.recipe"))?.is_null();
    forget(plan, &format!("{path}.targets"));
    let recipe = compressed.then(|| {
        let mut choices = recipe(plan, &format!("{path}.recipe"));
        choices.extend(taken(plan, path, &[FORMAT]));
        // That is said for all linears.
        choices.retain(|choice| !usual.contains(choice) && choice.option != Some(Opt::Published));
        choices
    });
    Some(Exception { targets, recipe })
}

/// The choices that a table finds under a path, which are removed from the plan.
fn taken(plan: &mut Value, path: &str, table: &[Place]) -> Vec<Choice> {
    let mut found = Vec::new();
    for (under, option, read) in table {
        let path = if path.is_empty() { under.to_string() } else { format!("{path}.{under}") };
        if let Some(choices) = at(plan, &path).and_then(|value| read(*option, value)) {
            found.extend(choices);
            forget(plan, &path);
        }
    }
    found
}

fn at<'a>(plan: &'a Value, path: &str) -> Option<&'a Value> {
    plan.pointer(&format!("/{}", path.replace('.', "/")))
}

fn at_mut<'a>(plan: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    plan.pointer_mut(&format!("/{}", path.replace('.', "/")))
}

/// Removes the value at a path from what is left to say.
fn forget(plan: &mut Value, path: &str) {
    if let Some(value) = at_mut(plan, path) {
        *value = Value::Null;
    }
}

/// A value as it would be typed.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) if !list.is_empty() => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
