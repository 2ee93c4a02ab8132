use serde_json::json;

use super::*;

fn of(generation: serde_json::Value) -> Result<Choices> {
    Choices::of_model(Some(("g.json", &generation)), &json!({"eos_token_id": 7, "pad_token_id": -1}))
}

#[test]
fn what_is_asked_comes_before_the_file_and_that_before_defaults() {
    let file = json!({
        "do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [4, 5], "pad_token_id": 9,
        "max_length": 4096, "transformers_version": "5", "bos_token_id": 1, "early_stopping": "never",
        "stop_strings": "END"
    });
    let model = of(file).unwrap();
    let settings = Settings::resolve(&Choices::default(), &model).unwrap();
    assert!(settings.do_sample && settings.temperature == 0.6 && settings.top_p == 0.9 && settings.top_k == TOP_K);
    assert_eq!((settings.eos.as_slice(), settings.pad), (&[4, 5][..], Some(9)));
    assert_eq!((settings.length, settings.early_stopping), (Length::Total(4096), EarlyStopping::Never));
    assert_eq!(settings.stop, ["END"]);
    let asked = Choices {
        temperature: Some(1.5),
        top_k: Some(0),
        max_new_tokens: Some(3),
        do_sample: Some(false),
        stop: vec!["a".into()],
        min_length: Some(8),
        ..Choices::default()
    };
    let settings = Settings::resolve(&asked, &model).unwrap();
    assert!(!settings.do_sample && settings.temperature == 1.5 && settings.top_p == 0.9 && settings.top_k == 0);
    assert_eq!((settings.length, settings.min_length), (Length::Exactly(3), 8));
    assert_eq!(settings.stop, ["a"]);
    let both = Choices { min_new_tokens: Some(2), ..asked };
    assert_eq!(Settings::resolve(&both, &model).unwrap().min_length, 0);
    // The end of a text may be in config.json alone; it is what pads, too.
    let settings = Settings::resolve(&Choices::default(), &of(json!({})).unwrap()).unwrap();
    assert_eq!((settings.eos.as_slice(), settings.pad), (&[7][..], Some(7)));
    assert_eq!(settings, Settings { eos: vec![7], pad: Some(7), ..Settings::default() });
}

#[test]
fn values_of_wrong_types_and_ranges_are_named() {
    for (value, words) in [
        (json!({"top_k": -1}), "g.json: top_k should be a whole number of at least 0, got -1"),
        (json!({"do_sample": "yes"}), "do_sample should be true or false"),
        (json!({"temperature": "hot"}), "temperature should be a number"),
        (json!({"eos_token_id": [1, "2"]}), "eos_token_id should be a token id, or a list"),
        (json!({"early_stopping": 1}), "early_stopping should be true, false or"),
        (json!({"stop_strings": [1]}), "stop_strings should be"),
        (json!({"stop_strings": ""}), "g.json: stop_strings should be a text, or a list of them, got"),
        (json!({"do_sample": true, "temperature": 0}), "g.json: temperature should be above 0, got 0"),
        (json!({"repetition_penalty": -1}), "g.json: repetition_penalty should be above 0, got -1"),
    ] {
        let error = of(value).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (asked, words) in [
        (Choices { temperature: Some(0.0), ..Choices::default() }, "temperature 0: must be above 0"),
        (Choices { temperature: Some(f32::NAN), ..Choices::default() }, "temperature NaN"),
        (Choices { top_p: Some(0.0), ..Choices::default() }, "top-p 0: must be above 0 and at most 1"),
        (Choices { top_p: Some(1.5), ..Choices::default() }, "top-p 1.5"),
        (Choices { min_p: Some(-0.1), ..Choices::default() }, "min-p -0.1: must be between 0 and 1"),
        (Choices { repetition_penalty: Some(-1.0), ..Choices::default() }, "repetition-penalty -1"),
        (
            Choices { min_new_tokens: Some(3), max_new_tokens: Some(2), ..Choices::default() },
            "min-new-tokens 3: must be at most the number of new tokens",
        ),
        (Choices { num_beams: Some(0), ..Choices::default() }, "num-beams 0: must be from 1"),
        (Choices { num_return_sequences: Some(2), ..Choices::default() }, "num-return-sequences 2"),
        (Choices { presence_penalty: Some(3.0), ..Choices::default() }, "presence-penalty 3"),
        (Choices { stop: vec![String::new()], ..Choices::default() }, "stop \"\": must be a text"),
        (Choices { logit_bias: vec![(1, f32::NAN)], ..Choices::default() }, "logit-bias NaN"),
    ] {
        let error = Settings::resolve(&asked, &Choices::default()).unwrap_err();
        assert!(error.is_misuse() && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_a_file_says_of_drawing_counts_where_it_draws() {
    let model = of(json!({"temperature": 0, "top_p": 0.5, "repetition_penalty": 2})).unwrap();
    let settings = Settings::resolve(&Choices::default(), &model).unwrap();
    assert_eq!((settings.temperature, settings.top_p, settings.repetition_penalty), (1.0, 1.0, 2.0));
    let model = of(json!({"do_sample": true, "num_return_sequences": 3})).unwrap();
    assert_eq!(Settings::resolve(&Choices::default(), &model).unwrap().num_return_sequences, 1);
}

#[test]
fn lengths_fit_the_context_or_are_errors_that_name_it() {
    let of = |length, prompt, context| Settings { length, ..Settings::default() }.new_tokens(prompt, context);
    assert_eq!(of(Length::Exactly(5), 3, Some(8)).unwrap(), 5);
    assert_eq!(of(Length::AtMost(20), 3, Some(8)).unwrap(), 5);
    assert_eq!(of(Length::AtMost(2), 3, Some(8)).unwrap(), 2);
    assert_eq!(of(Length::Total(5), 3, Some(8)).unwrap(), 2);
    assert_eq!(of(Length::Total(2), 3, None).unwrap(), 0);
    assert_eq!(of(Length::Context, 3, Some(8)).unwrap(), 5);
    assert_eq!(of(Length::Exactly(0), 8, Some(8)).unwrap(), 0);
    for (length, prompt, words) in [
        (Length::Exactly(6), 3, "3 tokens of the prompt and 6 new ones are more than the model's context of 8"),
        (Length::AtMost(1), 8, "the prompt has 8 tokens, and the model's context is 8"),
        (Length::Exactly(0), 9, "the prompt has 9 tokens"),
        (Length::Context, 0, "the prompt has no token"),
    ] {
        let error = of(length, prompt, Some(8)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
