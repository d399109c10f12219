//! One call: of a function that there is, with the arguments it takes.

use spool_function::manifest::is_name;
use spool_function::own::nearest;
use spool_function::stub::starlark::{OPTIONS, parameters};
use spool_rules::value::Value;
use starlark_syntax::codemap::Span;
use starlark_syntax::syntax::ast::{Argument, AstArgument, AstExpr, Expr};

use super::file::{File, Name};
use super::{Found, Known, Rules, Stub, literal};

const UNKNOWN: &str = "unknown_function";

/// A call of a function, by whatever name.
pub(super) struct Called<'a> {
    /// `None`: of one whose name is made at run time, or that only its server knows.
    pub(super) known: Option<&'a Known>,
    /// Where its name is wrong.
    pub(super) wrong: Option<String>,
    /// By the word `call`, not by a stub.
    pub(super) plain: bool,
}

/// `None`: it calls no function of Spool's.
pub(super) fn called<'a>(rules: &'a Rules, file: &File, callee: &AstExpr, args: &[AstArgument]) -> Option<Called<'a>> {
    let name = Name::of(callee)?;
    if name.first == "call" && name.field.is_none() {
        let means_it = !file.rebound.contains("call") && !file.loads.contains_key("call") && file.def("call").is_none();
        if !means_it {
            return None;
        }
        let plain = |known, wrong| Some(Called { known, wrong, plain: true });
        let Some(function) = args.iter().find_map(|argument| match &argument.node {
            Argument::Positional(first) => literal::text(first),
            _ => None,
        }) else {
            return plain(None, None);
        };
        let (bare, _) = function.split_once('@').unwrap_or((function, ""));
        return match rules.functions.get(bare) {
            Some(known) if !known.own || bare == function => plain(Some(known), None),
            Some(_) => plain(None, Some(format!("{bare:?} comes with the workers and has no versions"))),
            // Only its server knows what was pushed; this can never have been.
            None if !is_name(bare) => plain(None, Some(rules.unknown(bare))),
            None => plain(None, None),
        };
    }
    match rules.stub(file, &name) {
        Stub::None => None,
        Stub::Of(known) => Some(Called { known: Some(known), wrong: None, plain: false }),
        Stub::Missing(function) => Some(Called { known: None, wrong: Some(rules.unknown(&function)), plain: false }),
    }
}

pub(super) fn check(rules: &Rules, file: &File, found: &mut Vec<Found>) {
    // What undoes a call is given its answer as one more argument.
    let mut undoes: Vec<Span> = Vec::new();
    file.expressions(&mut |expression| {
        let Expr::Call(callee, args) = &expression.node else { return };
        undoes.extend(args.args.iter().filter_map(|argument| match &argument.node {
            Argument::Named(name, value) if name.node == "undo" => Some(value.span),
            _ => None,
        }));
        let Some(called) = called(rules, file, callee, &args.args) else { return };
        if let Some(wrong) = called.wrong {
            let at = args.args.first().filter(|_| called.plain).map_or(callee.span, |first| first.span);
            found.push(Found::error(at, UNKNOWN, wrong));
        }
        let Some(known) = called.known else { return };
        let call = Checked { known, at: expression, args: &args.args, undoes: undoes.contains(&expression.span) };
        if called.plain { call.by_word(found) } else { call.by_stub(found) }
    });
}

struct Checked<'a> {
    known: &'a Known,
    at: &'a AstExpr,
    args: &'a [AstArgument],
    undoes: bool,
}

impl Checked<'_> {
    /// Others may be among what is spread into it.
    fn is_whole(&self) -> bool {
        !self.args.iter().any(|argument| matches!(argument.node, Argument::Args(_) | Argument::KwArgs(_)))
    }

    fn named(&self, wanted: &str) -> Option<&AstExpr> {
        self.args.iter().find_map(|argument| match &argument.node {
            Argument::Named(name, value) if name.node == wanted => Some(value),
            _ => None,
        })
    }

    fn by_word(&self, found: &mut Vec<Found>) {
        let schema = self.known.input.record();
        match self.named("args").map(|args| (args, &args.node)) {
            Some((at, Expr::Dict(entries))) => {
                let given: Vec<_> =
                    entries.iter().filter_map(|(key, value)| Some((literal::text(key)?, key, value))).collect();
                let whole = given.len() == entries.len() && !self.undoes;
                literal::record(at, &given, whole, schema, "", found);
            }
            None if self.is_whole() && !self.undoes => literal::record(self.at, &[], true, schema, "", found),
            Some((at, _)) if literal::value(at).is_some_and(|value| !matches!(value, Value::Null)) => {
                found.push(Found::error(at.span, literal::BAD, format!("the args of {} are a dict", self.known.name)));
            }
            _ => {}
        }
        if !self.known.own
            && let Some(inputs) = self.named("inputs")
            && matches!(&inputs.node, Expr::List(all) if !all.is_empty())
        {
            let name = &self.known.name;
            let message = format!("{name} has its files among its args: a function that was pushed takes no inputs");
            found.push(Found::error(inputs.span, literal::BAD, message));
        }
    }

    fn by_stub(&self, found: &mut Vec<Found>) {
        let Value::Map(fields) = self.known.input.record().get("fields").cloned().unwrap_or_default() else { return };
        let named = parameters(fields.keys().map(AsRef::as_ref));
        let mut given = Vec::new();
        for argument in self.args {
            match &argument.node {
                Argument::Named(name, value) => match named.iter().find(|(_, parameter)| *parameter == name.node) {
                    Some((field, _)) => given.push((*field, value, value)),
                    None if OPTIONS.contains(&name.node.as_str()) => {}
                    None => {
                        let all = || named.iter().map(|(_, parameter)| parameter.as_str());
                        let hint = nearest(&name.node, all().chain(OPTIONS)).map_or_else(
                            || format!("it takes {}, and what call() takes", all().collect::<Vec<_>>().join(", ")),
                            |near| format!("{near} may be meant"),
                        );
                        let message = format!("{} takes no {}; {hint}", self.known.name, name.node);
                        found.push(Found::error(name.span, literal::BAD, message));
                    }
                },
                Argument::Positional(value) => {
                    let message = format!("{} takes its arguments by name", self.known.name);
                    found.push(Found::error(value.span, literal::BAD, message));
                }
                Argument::Args(_) | Argument::KwArgs(_) => {}
            }
        }
        let by_place = self.args.iter().any(|argument| matches!(argument.node, Argument::Positional(_)));
        let whole = self.is_whole() && !self.undoes && !by_place;
        literal::record(self.at, &given, whole, self.known.input.record(), "", found);
    }
}
