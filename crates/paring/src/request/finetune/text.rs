//! Names → text to train on.

use std::path::Path;

use paring_data::named::{Files, Protocol, Purpose, Remote};
use paring_data::training::{Form, TrainingData};

use crate::request::DataOptions;
use crate::request::sources::{Model, Sources};
use crate::{Error, Result};

impl Sources {
    /// Opens data to train on, or the text of a built-in `model` where none is named.
    ///
    /// # Errors
    /// When no data is named and the model brings none, or the data cannot be read.
    pub fn training(
        &self,
        model: &Model,
        name: Option<&str>,
        form: Option<Form>,
        options: &DataOptions,
    ) -> Result<TrainingData> {
        if let Some(name) = name.filter(|name| self.built_in(name).is_none()) {
            let fetch = |remote: &Remote| self.fetched(remote);
            let files = Files { dir: options.data_dir.as_deref(), fetch: &fetch };
            if let Some(data) = TrainingData::named(name, &files)? {
                return match form {
                    Some(form) if form != data.form() => Err(Error::Misuse(format!(
                        "{name} is a named set, whose form is known; leave the form out, or name a file"
                    ))),
                    _ => Ok(data),
                };
            }
            if Path::new(name).exists() {
                let field = Some(options.text_field.as_str()).filter(|field| *field != "text");
                return Ok(TrainingData::open(Path::new(name), field, form)?);
            }
        }
        if form.is_some_and(|form| form != Form::Text) {
            return Err(Error::Misuse("a built-in text, whose form is known; leave the form out".into()));
        }
        Ok(self.data(model, name, (Purpose::Calibration, Protocol::Gptq), options)?.into())
    }
}
