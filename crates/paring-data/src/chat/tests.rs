use serde_json::json;

use super::*;

fn template(source: &str) -> Template {
    Template::new(source, "t".into(), vec![("eos_token".into(), "</s>".into())])
}

/// 26 July 2024, 13:20:00.
fn moment() -> Moment {
    Moment::from_seconds(1_722_000_000).unwrap()
}

fn render(source: &str) -> Result<String, String> {
    let messages = [json!({"role": "user", "content": " Hi <b> "}), json!({"role": "assistant", "content": "Yes."})];
    template(source).render(&messages, moment(), false)
}

/// The lines of a block tag vanish, Python's methods work, and a template can ask what it was not given.
#[test]
fn as_transformers_renders_it() {
    let source = "{%- if tools is not none %}tools{% endif %}\n{% for message in messages %}\n    \
        {% if loop.index0 % 2 == 1 and message.role != 'assistant' %}\n\
        {{ raise_exception('turns must alternate') }}\n    {% endif %}\n\
        {{ '<|' + message['role'].upper() + '|>' + message['content'].strip() + eos_token }}\n{% endfor %}\n\
        {% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert_eq!(render(source).unwrap(), "<|USER|>Hi <b></s>\n<|ASSISTANT|>Yes.</s>\n");
    assert_eq!(render("{{ messages[0] | tojson }}").unwrap(), r#"{"role": "user", "content": " Hi <b> "}"#);
    assert_eq!(render("{{ [1, 'é'] | tojson }}").unwrap(), r#"[1, "é"]"#);
    let namespace =
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}";
    assert_eq!(render(namespace).unwrap(), "2");
    assert_eq!(render("{% for m in messages %}{% break %}{{ m }}{% endfor %}{{ bos_token }}").unwrap(), "");
}

#[test]
fn what_a_template_must_not_do() {
    for (source, words) in [
        ("{{ raise_exception('turns\n  must alternate') }}", "turns must alternate"),
        ("{% for m in messages %}", "syntax error"),
        ("{{ messages.nothing.more }}", "has no attribute 'nothing'"),
        ("{{ nothing.more }}", "'nothing' is undefined"),
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "2000000 steps"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{% set x = 'abcdefgh' * 9000000 %}{{ x }}", "t"),
        ("{% include '/etc/passwd' %}", "not found"),
        ("{% for i in range(90000) %}{{ 'abcdefgh' * 1000 }}{% endfor %}", "more than 64 MiB"),
    ] {
        let error = render(source).unwrap_err();
        assert!(error.starts_with("the chat template of t: ") && error.contains(words), "{source}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn where_templates_lie() {
    let dir = tempfile::tempdir().unwrap();
    let at = |config: &Value| places::find(dir.path(), config).map(|found| found.map(|(_, source)| source));
    assert_eq!(at(&Value::Null).unwrap(), None);
    let list = json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]});
    assert_eq!(at(&list).unwrap().as_deref(), Some("d"));
    assert_eq!(at(&json!({"chat_template": "own"})).unwrap().as_deref(), Some("own"));
    let error = at(&json!({"chat_template": 3})).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json: chat_template: expected text"), "{error}");
    std::fs::write(dir.path().join("chat_template.json"), r#"{"chat_template": "from json"}"#).unwrap();
    assert_eq!(at(&list).unwrap().as_deref(), Some("from json"));
    std::fs::write(dir.path().join("chat_template.jinja"), "from jinja").unwrap();
    assert_eq!(at(&list).unwrap().as_deref(), Some("from jinja"));
}

#[test]
fn dates() {
    let at = |seconds| Moment::from_seconds(seconds).unwrap();
    for (seconds, want) in [
        (0, "Thursday 01 January 1970 00:00:00"),
        (951_782_399, "Monday 28 February 2000 23:59:59"),
        (951_782_400, "Tuesday 29 February 2000 00:00:00"),
        (1_735_689_599, "Tuesday 31 December 2024 23:59:59"),
    ] {
        let got = at(seconds).strftime("%A %d %B %Y %H:%M:%S").unwrap();
        assert_eq!(got, want);
    }
    let day = at(1_722_000_000);
    assert_eq!(day.strftime("%d %b %y, %a %m 100%%").unwrap(), "26 Jul 24, Fri 07 100%");
    assert!(day.strftime("%Q").is_err());
}

/// The same as transformers renders of some three hundred expressions and statements, errors included.
#[test]
fn expressions_as_jinja_has_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/chats/expressions.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let messages = golden["messages"].as_array().unwrap();
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens: Vec<_> = tokens.iter().map(|(name, token)| ((*name).to_owned(), Value::from(*token))).collect();
    let (mut count, mut wrong) = (0, Vec::new());
    for case in golden["expressions"].as_array().unwrap() {
        let template = Template::new(case["template"].as_str().unwrap(), "t".into(), tokens.clone());
        let got = template.render(messages, moment(), false);
        count += 1;
        if got.as_deref().ok() != case["text"].as_str() {
            wrong.push(format!("{}\n  got  {got:?}\n  want {:?}", case["template"], case["text"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 250);
}

/// The conversations of tests/golden/chats through templates as models have them: the text, or an error where
/// transformers has one.
#[test]
fn whole_templates_as_transformers_renders_them() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/chats"));
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("templates.json")).unwrap()).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, case) in golden["templates"].as_object().unwrap() {
        let source = std::fs::read_to_string(folder.join("templates").join(format!("{name}.jinja"))).unwrap();
        let tokens = case["tokens"].as_object().unwrap().clone().into_iter().collect();
        let template = Template::new(&source, name.clone(), tokens);
        for (conversation, messages) in golden["conversations"].as_object().unwrap() {
            let got = template.render(messages.as_array().unwrap(), moment(), false);
            let want = case["rendered"][conversation]["text"].as_str();
            count += 1;
            if got.as_deref().ok() != want {
                wrong.push(format!("{name}, {conversation}\n  got  {got:?}\n  want {want:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 25 * 9);
}

/// Templates of a few bytes that would take all memory, all time or the stack.
#[test]
fn templates_that_multiply() {
    let doubling = |first: &str, operator: &str| {
        format!(
            "{{% set ns = namespace(s={first}) %}}{{% for i in range(60) %}}{{% set ns.s = ns.s {operator} ns.s %}}{{% endfor %}}"
        )
    };
    let named = |argument: &str| format!("{{{{ 'a'|map({})|list }}}}", vec![argument; 5000].join(", "));
    for source in [
        doubling("'a'", "+"),
        doubling("'a'", "~"),
        doubling("[1]", "+"),
        doubling("(1,)", "+"),
        "{{ '%10000000000d' | format(1) }}".into(),
        "{{ '%*d' % (10000000000, 1) }}".into(),
        "{{ '%.2000000000f' % 1.5 }}".into(),
        "{{ '{:>10000000000}'.format(1) }}".into(),
        "{{ '{:.100000f}'.format(1.5) }}".into(),
        "{{ 'a' * 10000000000 }}{{ [1] * 10000000000 }}".into(),
        "{{ 'a\n' | indent(10000000000) }}".into(),
        "{{ 'a'.center(10000000000) }}".into(),
        "{{ 'a'.zfill(99999999999999999999999999) }}".into(),
        "{{ [1, 2] | batch(10000000000, 'x') | list }}".into(),
        "{{ [1, 2] | slice(10000000000, 'x') | list }}".into(),
        "{{ range(100000) | join('aaaaaaaaaaaaaaaaaaaaaaa' * 100000) }}".into(),
        "{{ ('a' * 60000000).split('a') | length }}{{ (' ' * 60000000) | list | length }}".into(),
        "{{ ('a' * 1000).replace('', 'b' * 1000000) }}".into(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}".into(),
        "{% set ns = namespace(s={}) %}{% for i in range(100000) %}{% set ns.s = {'a': ns.s} %}{% endfor %}".into(),
        "{% set ns = namespace(s=[]) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}".into(),
        "{% set ns = namespace(s=()) %}{% for i in range(90) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}".into(),
        "{% set ns = namespace(s=[]) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == [ns.s] or ns.s | tojson }}".into(),
        "{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}".into(),
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".into(),
        named("'map'"),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ x{} }}}}", "|trim".repeat(100_000)),
        "{% if true %}".repeat(100_000),
    ] {
        let error = render(&source).unwrap_err();
        assert!(error.starts_with("the chat template of t: "), "{error}");
    }
    // What refers to itself is given back, and an empty list times anything is empty.
    let circle = "{% set ns = namespace() %}{% set ns.a = [ns] %}{% macro f() %}{% endmacro %}{{ [] * 10000000000 }}";
    assert_eq!(render(circle).unwrap(), "[]");
}
