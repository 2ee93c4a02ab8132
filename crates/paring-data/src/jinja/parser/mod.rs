//! Tokens → statements.

mod expression;

use std::sync::Arc;

use super::Fault;
use super::ast::{Body, Expr, For, Macro, Node, Statement, Uses};
use super::lexer::{self, Token};

/// Levels that statements and expressions may be nested; templates in use have some fifteen.
const DEEPEST: usize = 64;
/// Operators, calls or filters in a row, without brackets between them.
const LONGEST: usize = 100;

/// The statements of a template.
pub(super) fn parse(source: &str) -> Result<Body, Fault> {
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0, uses: Vec::new() };
    let body = parser.statements(&[])?;
    Ok(body)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
    /// Loops around this place that `break` can leave.
    loops: usize,
    /// Of the macros around this place.
    uses: Vec<Uses>,
}

type Made<T> = Result<T, Fault>;

impl Parser {
    fn token(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn ahead(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> Token {
        let last = self.at + 1 == self.tokens.len();
        let token = if last { Token::End } else { std::mem::replace(&mut self.tokens[self.at].0, Token::End) };
        self.at += usize::from(!last);
        token
    }

    fn wrong(&self, text: impl Into<String>) -> Fault {
        Fault::syntax(text, self.line())
    }

    fn unexpected(&self, token: &Token) -> Fault {
        let what = match token {
            Token::Data(_) => "text".into(),
            Token::BlockBegin => "{%".into(),
            Token::BlockEnd => "%}".into(),
            Token::PrintBegin => "{{".into(),
            Token::PrintEnd => "}}".into(),
            Token::Name(name) => name.clone(),
            Token::Text(text) => format!("{text:?}"),
            Token::Int(number) => number.to_string(),
            Token::Float(number) => number.to_string(),
            Token::Operator(operator) => (*operator).into(),
            Token::End => "end of the template".into(),
        };
        self.wrong(format!("unexpected {what}"))
    }

    fn unexpected_here(&self) -> Fault {
        self.unexpected(self.token())
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token(), Token::Operator(found) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.token(), Token::Name(found) if found == name)
    }

    fn skip(&mut self, operator: &str) -> bool {
        let found = self.is(operator);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, operator: &str) -> Made<()> {
        if self.skip(operator) { Ok(()) } else { Err(self.unexpected_here()) }
    }

    fn name(&mut self) -> Made<Box<str>> {
        match self.next() {
            Token::Name(name) => Ok(name.into()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn block_end(&mut self) -> Made<()> {
        match self.next() {
            Token::BlockEnd => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Parses something one level deeper.
    fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Made<T>) -> Made<T> {
        if self.depth == DEEPEST {
            return Err(self.wrong(format!("more than {DEEPEST} levels deep")));
        }
        self.depth += 1;
        let made = part(self);
        self.depth -= 1;
        made
    }

    /// Errors when that many links of a chain are too many.
    fn link(&self, link: usize) -> Made<()> {
        if link == LONGEST { Err(self.wrong(format!("more than {LONGEST} operators in a row"))) } else { Ok(()) }
    }

    /// Notes a name with a meaning of its own in macros.
    fn uses(&mut self, name: &str) {
        if let Some(uses) = self.uses.last_mut() {
            uses.caller |= name == "caller";
            uses.varargs |= name == "varargs";
            uses.kwargs |= name == "kwargs";
        }
    }

    /// Statements up to a tag that begins with one of `ends`, which is the next token then, or to the end.
    fn statements(&mut self, ends: &[&str]) -> Made<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let node = match self.next() {
                Token::Data(text) => Node::Text(text.into()),
                Token::PrintBegin => {
                    let made = self.tuple(true, &[], false)?;
                    match self.next() {
                        Token::PrintEnd => Node::Print(made),
                        other => return Err(self.unexpected(&other)),
                    }
                }
                Token::BlockBegin => {
                    if matches!(self.token(), Token::Name(name) if ends.contains(&name.as_str())) {
                        return Ok(body);
                    }
                    let node = self.deeper(|parser| parser.statement(line))?;
                    self.block_end()?;
                    node
                }
                Token::End if ends.is_empty() => return Ok(body),
                Token::End => return Err(self.wrong(format!("the template ends without {}", ends.join(" or ")))),
                other => return Err(self.unexpected(&other)),
            };
            body.push(Statement { line, node });
        }
    }

    /// The body of a tag, up to one of `ends`; the tag's own end comes first.
    fn body(&mut self, ends: &[&str]) -> Made<Body> {
        self.skip(":");
        self.block_end()?;
        self.statements(ends)
    }

    /// The same, and steps over the name that ends it.
    fn body_of(&mut self, end: &str) -> Made<Body> {
        let body = self.body(&[end])?;
        self.next();
        Ok(body)
    }

    fn statement(&mut self, line: usize) -> Made<Node> {
        let name = self.name()?;
        match &*name {
            "if" => self.branches(),
            "for" => self.for_loop(),
            "set" => self.set(),
            "macro" => {
                let name = self.name()?;
                Ok(Node::Macro(Arc::new(self.macro_of(name, "endmacro")?)))
            }
            "call" => self.call(),
            "filter" => {
                let mut filters = vec![self.filter()?];
                while self.skip("|") {
                    filters.push(self.filter()?);
                }
                Ok(Node::Filter { filters, body: self.body_of("endfilter")? })
            }
            "with" => self.with(),
            // What the model said, for those who train on it. It writes nothing, and is a call block to Jinja.
            "generation" => {
                let body = self.macro_body("caller".into(), Vec::new(), "endgeneration")?;
                Ok(Node::Generation(Arc::new(body)))
            }
            "print" => Ok(Node::Print(self.expression(true)?)),
            "break" | "continue" if self.loops == 0 => Err(self.wrong(format!("{name} outside of a loop"))),
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "include" | "import" | "from" | "extends" => {
                let what = self.token().clone();
                let Token::Text(what) = what else { return Err(self.wrong(format!("{name}: there is no other file"))) };
                Err(self.wrong(format!("{name}: template {what:?} not found; a chat template is one file")))
            }
            "block" | "autoescape" | "raw" => Err(self.wrong(format!("the tag {name} cannot be used here"))),
            _ => Err(Fault::syntax(format!("unknown tag {name}"), line)),
        }
    }

    fn branches(&mut self) -> Made<Node> {
        let (mut branches, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let test = self.tuple(false, &[], false)?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.body(&["endif"])?;
            }
            self.next();
            return Ok(Node::If { branches, otherwise });
        }
    }

    fn for_loop(&mut self) -> Made<Node> {
        let target = self.target(&["in"], false)?;
        if !self.skip_name("in") {
            return Err(self.unexpected_here());
        }
        let over = self.tuple(false, &["recursive"], false)?;
        let test = if self.skip_name("if") { Some(self.expression(true)?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let body = self.body(&["endfor", "else"]);
        self.loops -= 1;
        let body = body?;
        let otherwise = if self.skip_name("else") { self.body(&["endfor"])? } else { Vec::new() };
        self.next();
        Ok(Node::For(Arc::new(For { target, over, test, recursive, body, otherwise })))
    }

    fn set(&mut self) -> Made<Node> {
        let target = self.target(&[], true)?;
        if self.skip("=") {
            return Ok(Node::Set { target, value: self.tuple(true, &[], false)? });
        }
        let mut filters = Vec::new();
        while self.skip("|") {
            filters.push(self.filter()?);
        }
        Ok(Node::SetBlock { target, filters, body: self.body_of("endset")? })
    }

    fn with(&mut self) -> Made<Node> {
        let mut values = Vec::new();
        while !matches!(self.token(), Token::BlockEnd) {
            if !values.is_empty() {
                self.expect(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect("=")?;
            values.push((target, self.expression(true)?));
        }
        Ok(Node::With { values, body: self.body_of("endwith")? })
    }

    fn call(&mut self) -> Made<Node> {
        let parameters = if self.is("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression(true)?;
        if !matches!(call, Expr::Call(..)) {
            return Err(self.wrong("call: expected a call"));
        }
        let caller = Arc::new(self.macro_body("caller".into(), parameters, "endcall")?);
        Ok(Node::Call { call, caller })
    }

    fn macro_of(&mut self, name: Box<str>, end: &str) -> Made<Macro> {
        let parameters = self.parameters()?;
        self.macro_body(name, parameters, end)
    }

    fn macro_body(&mut self, name: Box<str>, parameters: Vec<(Box<str>, Option<Expr>)>, end: &str) -> Made<Macro> {
        self.uses.push(Uses::default());
        let body = self.apart(|parser| parser.body_of(end));
        let uses = self.uses.pop().unwrap_or_default();
        if let Some(outer) = self.uses.last_mut() {
            outer.caller |= uses.caller;
            outer.varargs |= uses.varargs;
            outer.kwargs |= uses.kwargs;
        }
        Ok(Macro { name, parameters, body: body?, uses })
    }

    /// Parses something that the loops around it cannot be left from.
    fn apart<T>(&mut self, part: impl FnOnce(&mut Self) -> Made<T>) -> Made<T> {
        let loops = std::mem::take(&mut self.loops);
        let made = part(self);
        self.loops = loops;
        made
    }

    fn parameters(&mut self) -> Made<Vec<(Box<str>, Option<Expr>)>> {
        self.expect("(")?;
        let mut parameters: Vec<(Box<str>, Option<Expr>)> = Vec::new();
        while !self.is(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = if self.skip("=") { Some(self.expression(true)?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return Err(self.wrong(format!("{name} has no default and stands after one that has")));
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }
}
