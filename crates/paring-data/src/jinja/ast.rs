//! The parts of a parsed template.

use std::sync::Arc;

/// A statement and the line that it begins in.
#[derive(Debug)]
pub(super) struct Statement {
    pub line: usize,
    pub node: Node,
}

pub(super) type Body = Vec<Statement>;

#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    For(Arc<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<(Box<str>, Args)>,
        body: Body,
    },
    Macro(Arc<Macro>),
    /// A call whose `caller` is a body.
    Call {
        call: Expr,
        caller: Arc<Macro>,
    },
    Filter {
        filters: Vec<(Box<str>, Args)>,
        body: Body,
    },
    With {
        values: Vec<(Target, Expr)>,
        body: Body,
    },
    /// A body that is marked as the model's own words: a macro that is called where it stands.
    Generation(Arc<Macro>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub over: Expr,
    pub test: Option<Expr>,
    pub recursive: bool,
    pub body: Body,
    pub otherwise: Body,
}

/// A macro, or the body of a call.
#[derive(Debug)]
pub(super) struct Macro {
    pub name: Box<str>,
    pub parameters: Vec<(Box<str>, Option<Expr>)>,
    pub body: Body,
    pub uses: Uses,
}

/// The names with a meaning of their own that a macro's body has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    pub caller: bool,
    pub varargs: bool,
    pub kwargs: bool,
}

/// A place that a value is given to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Box<str>),
    /// An attribute of a namespace.
    Attribute(Box<str>, Box<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug, Default)]
pub(super) struct Args {
    pub positional: Vec<Expr>,
    pub named: Vec<(Box<str>, Expr)>,
    /// After `*` and `**`.
    pub more: Option<Box<Expr>>,
    pub more_named: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Box<str>),
    Name(Box<str>),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Box<str>),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Box<Args>),
    Filter(Box<Expr>, Box<str>, Box<Args>),
    Test(Box<Expr>, Box<str>, Box<Args>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Joined by `~`.
    Concat(Vec<Expr>),
    If {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

impl Binary {
    pub(super) fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "//" => Self::FloorDivide,
            "%" => Self::Modulo,
            "**" => Self::Power,
            _ => return None,
        })
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Comparison {
    pub(super) fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }
}
