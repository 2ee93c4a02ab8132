//! Expressions, in Jinja's order of precedence.

use super::Parser;
use crate::jinja::Fault;
use crate::jinja::ast::{Args, Binary, Comparison, Expr, Target};
use crate::jinja::lexer::Token;

type Made<T> = Result<T, Fault>;

impl Parser {
    /// An expression; `x if y` is one only where `with_if`.
    pub(super) fn expression(&mut self, with_if: bool) -> Made<Expr> {
        self.deeper(|parser| if with_if { parser.conditional() } else { parser.either() })
    }

    fn conditional(&mut self) -> Made<Expr> {
        let mut made = self.either()?;
        for link in 0.. {
            if !self.skip_name("if") {
                break;
            }
            self.link(link)?;
            let test = Box::new(self.either()?);
            let otherwise = if self.skip_name("else") { Some(Box::new(self.deeper(Self::conditional)?)) } else { None };
            made = Expr::If { test, then: Box::new(made), otherwise };
        }
        Ok(made)
    }

    fn either(&mut self) -> Made<Expr> {
        self.joined("or", Self::both, Expr::Or)
    }

    fn both(&mut self) -> Made<Expr> {
        self.joined("and", Self::not, Expr::And)
    }

    fn joined(&mut self, word: &str, part: fn(&mut Self) -> Made<Expr>, make: fn(Vec<Expr>) -> Expr) -> Made<Expr> {
        let first = part(self)?;
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_name(word) {
            parts.push(part(self)?);
        }
        Ok(make(parts))
    }

    fn not(&mut self) -> Made<Expr> {
        if self.skip_name("not") { Ok(Expr::Not(Box::new(self.deeper(Self::not)?))) } else { self.compare() }
    }

    fn compare(&mut self) -> Made<Expr> {
        let first = self.sum()?;
        let mut more = Vec::new();
        loop {
            let comparison = match self.token() {
                Token::Operator(operator) => Comparison::of(operator),
                Token::Name(name) if name == "in" => Some(Comparison::In),
                Token::Name(name) if name == "not" && matches!(self.ahead(), Token::Name(next) if next == "in") => {
                    self.next();
                    Some(Comparison::NotIn)
                }
                _ => None,
            };
            let Some(comparison) = comparison else { break };
            self.next();
            more.push((comparison, self.sum()?));
        }
        Ok(if more.is_empty() { first } else { Expr::Compare(Box::new(first), more) })
    }

    fn binary(&mut self, operators: &[&str], part: fn(&mut Self) -> Made<Expr>) -> Made<Expr> {
        let mut made = part(self)?;
        for link in 0.. {
            let Token::Operator(operator) = *self.token() else { break };
            let Some(binary) = Binary::of(operator).filter(|_| operators.contains(&operator)) else { break };
            self.link(link)?;
            self.next();
            made = Expr::Binary(binary, Box::new(made), Box::new(part(self)?));
        }
        Ok(made)
    }

    fn sum(&mut self) -> Made<Expr> {
        self.binary(&["+", "-"], Self::concat)
    }

    fn concat(&mut self) -> Made<Expr> {
        let first = self.product()?;
        if !self.is("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Made<Expr> {
        self.binary(&["*", "/", "//", "%"], Self::power)
    }

    fn power(&mut self) -> Made<Expr> {
        self.binary(&["**"], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filter: bool) -> Made<Expr> {
        let made = if self.skip("-") {
            Expr::Negative(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else if self.skip("+") {
            Expr::Positive(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let made = self.postfix(made)?;
        if with_filter { self.filters_and_tests(made) } else { Ok(made) }
    }

    fn primary(&mut self) -> Made<Expr> {
        let made = match self.next() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => {
                    self.uses(&name);
                    Expr::Name(name.into())
                }
            },
            Token::Text(mut text) => {
                while let Token::Text(more) = self.token() {
                    text.push_str(more);
                    self.next();
                }
                Expr::Text(text.into())
            }
            Token::Int(number) => Expr::Int(number),
            Token::Float(number) => Expr::Float(number),
            Token::Operator("(") => {
                let made = self.tuple(true, &[], true)?;
                self.expect(")")?;
                made
            }
            Token::Operator("[") => Expr::List(self.until("]", |parser| parser.expression(true))?),
            Token::Operator("{") => Expr::Dict(self.until("}", |parser| {
                let key = parser.expression(true)?;
                parser.expect(":")?;
                Ok((key, parser.expression(true)?))
            })?),
            other => return Err(self.unexpected(&other)),
        };
        Ok(made)
    }

    /// Parts with commas between them, and the bracket after them.
    fn until<T>(&mut self, end: &str, mut part: impl FnMut(&mut Self) -> Made<T>) -> Made<Vec<T>> {
        let mut parts = Vec::new();
        while !self.is(end) {
            if !parts.is_empty() {
                self.expect(",")?;
                if self.is(end) {
                    break;
                }
            }
            parts.push(part(self)?);
        }
        self.expect(end)?;
        Ok(parts)
    }

    /// One expression, or several with commas as a tuple. `ends` are the names that end it.
    pub(super) fn tuple(&mut self, with_if: bool, ends: &[&str], in_brackets: bool) -> Made<Expr> {
        let mut parts = Vec::new();
        let mut is_tuple = false;
        while !self.ends_tuple(ends) {
            parts.push(self.expression(with_if)?);
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(only) if !is_tuple => Ok(only),
            last if is_tuple || in_brackets => {
                parts.extend(last);
                Ok(Expr::Tuple(parts))
            }
            _ => Err(self.unexpected_here()),
        }
    }

    fn ends_tuple(&self, ends: &[&str]) -> bool {
        match self.token() {
            Token::PrintEnd | Token::BlockEnd | Token::Operator(")") => true,
            Token::Name(name) => ends.contains(&name.as_str()),
            _ => false,
        }
    }

    /// The target of an assignment; `ends` are the names that end it.
    pub(super) fn target(&mut self, ends: &[&str], with_namespace: bool) -> Made<Target> {
        let mut parts = Vec::new();
        let mut is_tuple = false;
        while !self.ends_tuple(ends) {
            parts.push(self.target_part(with_namespace)?);
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                parts.push(last);
                Ok(Target::Tuple(parts))
            }
            None => Err(self.unexpected_here()),
        }
    }

    fn target_part(&mut self, with_namespace: bool) -> Made<Target> {
        if self.skip("(") {
            let made = self.deeper(|parser| parser.target(&[], with_namespace))?;
            self.expect(")")?;
            return Ok(made);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return Err(self.wrong(format!("nothing can be assigned to {name}")));
        }
        if with_namespace && self.skip(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    fn postfix(&mut self, mut made: Expr) -> Made<Expr> {
        for link in 0.. {
            self.link(link)?;
            made = match self.token() {
                Token::Operator(".") => {
                    self.next();
                    match self.next() {
                        Token::Name(name) => Expr::Attribute(Box::new(made), name.into()),
                        Token::Int(number) => Expr::Item(Box::new(made), Box::new(Expr::Int(number))),
                        other => return Err(self.unexpected(&other)),
                    }
                }
                Token::Operator("[") => {
                    self.next();
                    let mut parts = self.until("]", Self::subscript)?;
                    let only = parts.pop().filter(|_| parts.is_empty());
                    let Some(item) = only else { return Err(self.wrong("expected one index in the brackets")) };
                    Expr::Item(Box::new(made), Box::new(item))
                }
                Token::Operator("(") => Expr::Call(Box::new(made), Box::new(self.args()?)),
                _ => break,
            };
        }
        Ok(made)
    }

    fn subscript(&mut self) -> Made<Expr> {
        let first = if self.is(":") { None } else { Some(self.expression(true)?) };
        if !self.skip(":") {
            return first.ok_or_else(|| self.unexpected_here());
        }
        let part = |parser: &mut Self| {
            let is_left_out = [":", "]", ","].iter().any(|end| parser.is(end));
            if is_left_out { Ok(None) } else { parser.expression(true).map(Some) }
        };
        let stop = part(self)?;
        let step = if self.skip(":") { part(self)? } else { None };
        Ok(Expr::Slice(Box::new([first, stop, step])))
    }

    fn filters_and_tests(&mut self, mut made: Expr) -> Made<Expr> {
        for link in 0.. {
            self.link(link)?;
            made = match self.token() {
                Token::Operator("|") => {
                    self.next();
                    let (name, args) = self.filter()?;
                    Expr::Filter(Box::new(made), name, Box::new(args))
                }
                Token::Name(name) if name == "is" => {
                    self.next();
                    self.test(made)?
                }
                Token::Operator("(") => Expr::Call(Box::new(made), Box::new(self.args()?)),
                _ => break,
            };
        }
        Ok(made)
    }

    /// The name and arguments of a filter.
    pub(super) fn filter(&mut self) -> Made<(Box<str>, Args)> {
        let name = self.dotted()?;
        let args = if self.is("(") { self.args()? } else { Args::default() };
        Ok((name, args))
    }

    fn dotted(&mut self) -> Made<Box<str>> {
        let mut name = self.name()?.into_string();
        while self.skip(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name.into())
    }

    fn test(&mut self, of: Expr) -> Made<Expr> {
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        let has_argument = match self.token() {
            Token::Name(word) if word == "is" => return Err(self.wrong("tests cannot be chained with is")),
            Token::Name(word) => !matches!(word.as_str(), "else" | "or" | "and"),
            Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Operator("[" | "{") => true,
            _ => false,
        };
        let args = if self.is("(") {
            self.args()?
        } else if has_argument {
            let argument = self.deeper(|parser| {
                let argument = parser.primary()?;
                parser.postfix(argument)
            })?;
            Args { positional: vec![argument], ..Args::default() }
        } else {
            Args::default()
        };
        let test = Expr::Test(Box::new(of), name, Box::new(args));
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }

    pub(super) fn args(&mut self) -> Made<Args> {
        self.expect("(")?;
        let mut args = Args::default();
        while !self.is(")") {
            let named = matches!((self.token(), self.ahead()), (Token::Name(_), Token::Operator("=")));
            let is_in_order = if self.skip("*") {
                let first = args.more.is_none() && args.more_named.is_none();
                args.more = Some(Box::new(self.expression(true)?));
                first
            } else if self.skip("**") {
                let first = args.more_named.is_none();
                args.more_named = Some(Box::new(self.expression(true)?));
                first
            } else if named {
                let name = self.name()?;
                self.expect("=")?;
                let is_new = args.named.iter().all(|(other, _)| *other != name);
                args.named.push((name, self.expression(true)?));
                is_new && args.more_named.is_none()
            } else {
                args.positional.push(self.expression(true)?);
                args.named.is_empty() && args.more.is_none() && args.more_named.is_none()
            };
            if !is_in_order {
                return Err(self.wrong("arguments of a call are out of order"));
            }
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        self.expect(")")?;
        Ok(args)
    }
}
