//! A strict reader of small XML, for tests: tags must match, attributes be quoted, and entities known.

/// An element with what is in it.
#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// The root of a document. Says what is wrong and where.
    pub fn parse(text: &str) -> Result<Element, String> {
        let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
        let mut open = vec![Element::default()];
        while !rest.is_empty() {
            let fail = |what: &str| Err(format!("{what}: {}", rest.chars().take(80).collect::<String>()));
            let Some(at) = rest.find('<') else { return fail("text after the root") };
            let top = open.last_mut().ok_or("no root")?;
            // Style sheets and scripts hold no tags, and their text is not escaped.
            top.nodes.push(Node::Text(if ["style", "script"].contains(&top.name.as_str()) {
                rest[..at].to_string()
            } else {
                unescaped(&rest[..at])?
            }));
            let Some(end) = rest[at..].find('>') else { return fail("a tag without end") };
            let tag = &rest[at + 1..at + end];
            if let Some(name) = tag.strip_prefix('/') {
                let closed = open.pop().filter(|e| e.name == name);
                let (Some(closed), Some(parent)) = (closed, open.last_mut()) else { return fail("closes nothing") };
                parent.nodes.push(Node::Element(closed));
            } else {
                let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
                let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
                    return fail("no tag");
                }
                let mut element = Element { name: name.to_string(), ..Element::default() };
                while !attributes.trim().is_empty() {
                    let parts = attributes.split_once("=\"").and_then(|(key, more)| Some((key, more.split_once('"')?)));
                    let Some((key, (value, more))) = parts else { return fail("an attribute without quotes") };
                    element.attributes.push((key.trim().to_string(), unescaped(value)?));
                    attributes = more;
                }
                match (empty, open.last_mut()) {
                    (true, Some(parent)) => parent.nodes.push(Node::Element(element)),
                    _ => open.push(element),
                }
            }
            rest = rest[at + end + 1..].trim_start_matches(if open.len() == 1 { "\n" } else { "\0" });
        }
        let root = open.pop().filter(|_| open.is_empty()).ok_or("tags that are not closed")?;
        let mut elements = root.nodes.into_iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        });
        let first = elements.next().ok_or("no root")?;
        if elements.next().is_some() { Err("two roots".to_string()) } else { Ok(first) }
    }

    /// An attribute.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Itself and all elements in it, in their order.
    pub fn all(&self) -> Vec<&Element> {
        let mut all = vec![self];
        self.elements().for_each(|element| all.extend(element.all()));
        all
    }

    /// The first element of that name right in it.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// All text in it.
    pub fn text(&self) -> String {
        let text = |node: &Node| match node {
            Node::Element(element) => element.text(),
            Node::Text(text) => text.clone(),
        };
        self.nodes.iter().map(text).collect()
    }

    fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let known = [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("#39;", '\'')];
        let found = known.iter().find_map(|(entity, c)| Some((c, part.strip_prefix(entity)?)));
        let (c, more) = found.ok_or_else(|| format!("an entity that is not known: &{part}"))?;
        plain.push(*c);
        plain.push_str(more);
    }
    Ok(plain)
}
