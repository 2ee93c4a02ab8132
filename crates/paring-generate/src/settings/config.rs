//! Settings in a model's files.

use serde_json::{Map, Value};

use super::{Choices, EarlyStopping, Settings};
use crate::{Error, Result};

/// A file's values by their keys.
struct Reader<'a> {
    file: &'a str,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn bad(&self, key: &str, value: &Value, expected: &'static str) -> Error {
        Error::Config { file: self.file.into(), key: key.into(), expected, got: value.to_string() }
    }

    /// A value as `read` understands it; `None` where there is none, or null.
    fn get<T>(&self, key: &str, expected: &'static str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.bad(key, value, expected)),
        }
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number of at least 0", |value| usize::try_from(value.as_u64()?).ok())
    }

    fn number(&self, key: &str) -> Result<Option<f32>> {
        self.get(key, "a number", |value| Some(value.as_f64()? as f32))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        // Some configs have −1 for none.
        let id = self.get(key, "a token id", |value| {
            if value.as_i64() == Some(-1) { Some(None) } else { u32::try_from(value.as_u64()?).ok().map(Some) }
        })?;
        Ok(id.flatten())
    }

    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.get(key, "a token id, or a list of them", |value| match value {
            Value::Array(list) => {
                list.iter().map(|value| value.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
            }
            value => u32::try_from(value.as_u64()?).ok().map(|id| vec![id]),
        })
    }
}

impl Choices {
    /// Reads the settings in a model's `generation_config.json`, if it has one: `generation` is the file's name, for messages,
    /// and its content. In older checkpoints the tokens that end and pad texts stand in `config.json`, whose content is
    /// `config`.
    ///
    /// # Errors
    /// On a value of a wrong type or out of its range, except those of drawing in a file that does not draw: as transformers
    /// does, a model runs without them.
    pub fn of_model(generation: Option<(&str, &Value)>, config: &Value) -> Result<Self> {
        let nothing = Map::new();
        let object = |value: Option<&Value>| value.and_then(Value::as_object).unwrap_or(&nothing).clone();
        let of_config = object(Some(config));
        let of_config = Reader { file: "config.json", object: &of_config };
        let (file, of_generation) =
            (generation.map_or("", |(file, _)| file), object(generation.map(|(_, value)| value)));
        let reader = Reader { file, object: &of_generation };
        let eos_token_id = match reader.ids("eos_token_id")? {
            Some(ids) => Some(ids),
            // Anything else there is ignored, since a model runs without it.
            None => of_config.ids("eos_token_id").unwrap_or_default(),
        };
        let pad_token_id = match reader.id("pad_token_id")? {
            Some(id) => Some(id),
            None => of_config.id("pad_token_id").unwrap_or_default(),
        };
        let mut choices = Self {
            max_new_tokens: reader.count("max_new_tokens")?,
            max_length: reader.count("max_length")?,
            min_new_tokens: reader.count("min_new_tokens")?,
            min_length: reader.count("min_length")?,
            do_sample: reader.flag("do_sample")?,
            num_beams: reader.count("num_beams")?,
            num_return_sequences: reader.count("num_return_sequences")?,
            temperature: reader.number("temperature")?,
            top_k: reader.count("top_k")?,
            top_p: reader.number("top_p")?,
            min_p: reader.number("min_p")?,
            typical_p: reader.number("typical_p")?,
            epsilon_cutoff: reader.number("epsilon_cutoff")?,
            eta_cutoff: reader.number("eta_cutoff")?,
            repetition_penalty: reader.number("repetition_penalty")?,
            no_repeat_ngram_size: reader.count("no_repeat_ngram_size")?,
            length_penalty: reader.number("length_penalty")?,
            early_stopping: reader.get("early_stopping", "true, false or \"never\"", early_stopping)?,
            eos_token_id,
            pad_token_id,
            stop: reader.get("stop_strings", "a text, or a list of them", texts)?.unwrap_or_default(),
            ..Self::default()
        };
        let check = |choices: &Self| Settings::resolve(&Self::default(), choices);
        if choices.do_sample != Some(true) && check(&choices).is_err() {
            choices = choices.without_drawing();
        }
        match check(&choices) {
            Err(Error::Setting { name, got, allowed }) => {
                Err(Error::Config { file: file.into(), key: name.replace('-', "_"), expected: allowed, got })
            }
            Err(error) => Err(error),
            Ok(_) => Ok(choices),
        }
    }

    fn without_drawing(self) -> Self {
        Self {
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            epsilon_cutoff: None,
            eta_cutoff: None,
            ..self
        }
    }
}

fn early_stopping(value: &Value) -> Option<EarlyStopping> {
    match value {
        Value::Bool(true) => Some(EarlyStopping::Yes),
        Value::Bool(false) => Some(EarlyStopping::No),
        Value::String(text) if text == "never" => Some(EarlyStopping::Never),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(String::from);
    match value {
        Value::Array(list) => list.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}
