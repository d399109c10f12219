//! What a reaction reads of `results`, where the rule's action calls one function and nothing else.

use std::collections::BTreeMap;

use spool_function::own::nearest;
use spool_rules::value::Value;
use starlark_syntax::codemap::Span;
use starlark_syntax::syntax::ast::{
    Argument, AssignTarget, AstAssignTarget, AstExpr, AstNoPayload, AstStmt, Expr, Stmt,
};
use starlark_syntax::syntax::uniplate::Visit;

use super::call::called;
use super::file::{File, Name, clauses, every, parameters, targets};
use super::{Found, Known, Rules};
use crate::compile::globals;
use crate::file::Severity;

/// Words whose results are none of a function's, or anything.
const OTHER_RESULTS: [&str; 4] = ["start", "timer", "compensate", "skip"];

pub(super) fn check(rules: &Rules, file: &File, found: &mut Vec<Found>) {
    let globals: Vec<String> = globals().names().map(|name| name.as_str().to_owned()).collect();
    file.expressions(&mut |expression| {
        let Expr::Call(callee, args) = &expression.node else { return };
        if Name::of(callee).is_none_or(|name| name.first != "rule" || name.field.is_some()) {
            return;
        }
        let section = |wanted: &str| {
            args.args.iter().find_map(|argument| match &argument.node {
                Argument::Named(name, value) if name.node == wanted => Some(value),
                _ => None,
            })
        };
        let (Some(action), Some(reaction)) = (section("action"), section("reaction")) else { return };
        let mut made = Made { rules, globals: &globals, calls: BTreeMap::new(), sure: true, seen: Vec::new() };
        made.section(file, action);
        let (sure, mut calls) = (made.sure, made.calls.into_values());
        let mut saved = Made { rules, globals: &globals, calls: BTreeMap::new(), sure: true, seen: Vec::new() };
        if let Some(error) = section("error") {
            saved.section(file, error);
        }
        let (Some(known), None, true, true) = (calls.next(), calls.next(), sure, saved.sure) else { return };
        if let Some(result) = &known.result {
            let results = Value::map([("type", Value::text("list")), ("of", result.record().clone())]);
            Reads { known, found }.section(file, reaction, results);
        }
    });
}

/// The calls that a section may make.
struct Made<'a> {
    rules: &'a Rules,
    globals: &'a [String],
    calls: BTreeMap<&'a str, &'a Known>,
    /// There are no others.
    sure: bool,
    seen: Vec<(&'a str, &'a str)>,
}

impl<'a> Made<'a> {
    fn section(&mut self, file: &'a File, section: &'a AstExpr) {
        match &section.node {
            Expr::Lambda(lambda) => self.body(file, Visit::Expr(&lambda.body)),
            Expr::Identifier(name) => self.defined(file, &name.node.ident),
            _ => self.sure = false,
        }
    }

    /// A function by the name it has in a file.
    fn defined(&mut self, file: &'a File, name: &'a str) {
        if let Some(def) = file.def(name) {
            if !self.seen.contains(&(file.name.as_str(), name)) {
                self.seen.push((file.name.as_str(), name));
                self.body(file, Visit::Stmt(&def.body));
            }
            return;
        }
        let from = file.loads.get(name).filter(|_| !file.rebound.contains(name));
        match from.and_then(|(from, their)| Some((self.rules.files.get(from)?, their))) {
            Some((from, their)) if from.def(their).is_some() => self.defined(from, their),
            _ => self.sure = false,
        }
    }

    fn body(&mut self, file: &'a File, body: Visit<'a, AstNoPayload>) {
        // Names in the place of what is called, and what undoes calls, are looked at with the call.
        let mut done: Vec<Span> = Vec::new();
        let mut all: Vec<&'a AstExpr> = Vec::new();
        every(body, &mut |expression| all.push(expression));
        for expression in all {
            if done.contains(&expression.span) {
                continue;
            }
            match &expression.node {
                Expr::Call(callee, args) => {
                    done.push(callee.span);
                    for argument in &args.args {
                        if let Argument::Named(name, undo) = &argument.node
                            && name.node == "undo"
                        {
                            every(Visit::Expr(undo), &mut |inner| done.push(inner.span));
                        }
                    }
                    let called = called(self.rules, file, callee, &args.args);
                    if let (Some(_), Expr::Dot(of, _)) = (&called, &callee.node) {
                        done.push(of.span);
                    }
                    self.call(file, callee, called.map(|called| called.known));
                }
                // A function that is handed on may be called by whoever gets it.
                Expr::Identifier(name) => {
                    let name = name.node.ident.as_str();
                    let function = file.def(name).is_some() || file.loads.contains_key(name) || name == "call";
                    self.sure &= !function || file.rebound.contains(name);
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, file: &'a File, callee: &'a AstExpr, called: Option<Option<&'a Known>>) {
        match (called, Name::of(callee)) {
            (Some(Some(known)), _) => drop(self.calls.insert(&known.name, known)),
            (Some(None), _) => self.sure = false,
            // A method of data, which makes no effects; what is loaded may hold functions.
            (None, Some(name)) if name.field.is_some() => self.sure &= !file.loads.contains_key(name.first),
            (None, Some(name)) if file.rebound.contains(name.first) || OTHER_RESULTS.contains(&name.first) => {
                self.sure = false;
            }
            (None, Some(name)) if file.def(name.first).is_some() || file.loads.contains_key(name.first) => {
                self.defined(file, name.first);
            }
            (None, Some(name)) => self.sure &= self.globals.iter().any(|global| global == name.first),
            (None, None) => self.sure &= matches!(callee.node, Expr::Dot(..)),
        }
    }
}

/// Types of names, innermost last. `None`: anything.
type Names = Vec<(String, Option<Value>)>;

/// What is read of one function's results.
struct Reads<'a, 'f> {
    known: &'a Known,
    found: &'f mut Vec<Found>,
}

impl Reads<'_, '_> {
    fn section(&mut self, file: &File, section: &AstExpr, results: Value) {
        let name = |name: &String| {
            let of = (name == "results").then(|| results.clone());
            (name.clone(), of)
        };
        match &section.node {
            Expr::Lambda(lambda) => {
                let mut names: Names = parameters(&lambda.params).iter().map(name).collect();
                self.expression(&lambda.body, &mut names);
            }
            Expr::Identifier(called) => {
                let Some(def) = file.def(&called.node.ident) else { return };
                let mut names: Names = parameters(&def.params).iter().map(name).collect();
                // What is set again somewhere may be anything anywhere.
                let mut set: BTreeMap<String, usize> = BTreeMap::new();
                count(&def.body, &mut set);
                for (name, of) in &mut names {
                    if set.contains_key(name) {
                        *of = None;
                    }
                }
                let again: Vec<String> =
                    set.into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| name).collect();
                self.statement(&def.body, &mut names, &again);
            }
            _ => {}
        }
    }

    fn statement(&mut self, statement: &AstStmt, names: &mut Names, again: &[String]) {
        match &statement.node {
            Stmt::Assign(assign) => {
                self.expression(&assign.rhs, names);
                bind(&assign.lhs, type_of(&assign.rhs, names), names, again);
            }
            Stmt::For(each) => {
                self.expression(&each.over, names);
                bind(&each.var, element(&each.over, names), names, again);
                self.statement(&each.body, names, again);
            }
            // Its own names.
            Stmt::Def(_) => {}
            _ => statement.visit_children(|child| match child {
                Visit::Stmt(inner) => self.statement(inner, names, again),
                Visit::Expr(inner) => self.expression(inner, names),
            }),
        }
    }

    fn expression(&mut self, expression: &AstExpr, names: &mut Names) {
        let depth = names.len();
        match &expression.node {
            Expr::Dot(of, field) => {
                self.expression(of, names);
                let Some(record) = type_of(of, names) else { return };
                let Some(Value::Map(fields)) = record.get("fields") else { return };
                if !fields.contains_key(field.node.as_str()) {
                    let known: Vec<&str> = fields.keys().map(AsRef::as_ref).collect();
                    let hint = nearest(&field.node, known.iter().copied());
                    let hint = hint.map_or_else(String::new, |near| format!("; {near} may be meant"));
                    let (function, field_name) = (&self.known.name, &field.node);
                    let message = format!(
                        "{function} answers nothing called {field_name:?} here{hint}; there are {}",
                        known.join(", ")
                    );
                    let (severity, code) = (Severity::Warning, "unknown_field");
                    self.found.push(Found { span: field.span, severity, code, message });
                }
            }
            Expr::Lambda(lambda) => {
                names.extend(parameters(&lambda.params).into_iter().map(|name| (name, None)));
                self.expression(&lambda.body, names);
            }
            Expr::ListComprehension(_, first, more) | Expr::DictComprehension(_, first, more) => {
                for clause in clauses(first, more) {
                    self.expression(&clause.over, names);
                    bind(&clause.var, element(&clause.over, names), names, &[]);
                }
                let overs: Vec<Span> = clauses(first, more).map(|clause| clause.over.span).collect();
                expression.visit_expr(|inner| {
                    if !overs.contains(&inner.span) {
                        self.expression(inner, names);
                    }
                });
            }
            _ => expression.visit_expr(|inner| self.expression(inner, names)),
        }
        names.truncate(depth);
    }
}

/// How often each name is set in statements.
fn count(statement: &AstStmt, set: &mut BTreeMap<String, usize>) {
    let (names, times) = match &statement.node {
        Stmt::Assign(assign) => (targets(&assign.lhs), 1),
        Stmt::For(each) => (targets(&each.var), 1),
        Stmt::AssignModify(to, _, _) => (targets(to), 2),
        _ => (Vec::new(), 0),
    };
    for name in names {
        *set.entry(name).or_default() += times;
    }
    statement.visit_stmt(|inner| count(inner, set));
}

/// A target takes a value of a type.
fn bind(target: &AstAssignTarget, of: Option<Value>, names: &mut Names, again: &[String]) {
    match &target.node {
        AssignTarget::Identifier(name) => {
            let name = &name.node.ident;
            names.push((name.clone(), of.filter(|_| !again.contains(name))));
        }
        AssignTarget::Tuple(all) => {
            let each = of.as_ref().filter(|of| kind(of) == "list").and_then(|of| of.get("of").cloned());
            let pair = of.as_ref().filter(|of| kind(of) == "pair").and_then(|of| of.get("of").cloned());
            for (at, one) in all.iter().enumerate() {
                let of = if at == 1 { pair.clone().or_else(|| each.clone()) } else { each.clone() };
                bind(one, of, names, again);
            }
        }
        AssignTarget::Index(_) | AssignTarget::Dot(..) => {}
    }
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_text).unwrap_or("any")
}

/// The type of what an expression has, where it is part of the results.
fn type_of(expression: &AstExpr, names: &Names) -> Option<Value> {
    let found = match &expression.node {
        Expr::Identifier(name) => names.iter().rev().find(|(known, _)| *known == name.node.ident)?.1.clone()?,
        Expr::Index(parts) => {
            let of = type_of(&parts.0, names)?;
            if !matches!(kind(&of), "list" | "map") {
                return None;
            }
            of.get("of")?.clone()
        }
        Expr::Slice(of, ..) => type_of(of, names).filter(|of| kind(of) == "list")?,
        Expr::Dot(of, field) => {
            let of = type_of(of, names)?;
            match kind(&of) {
                "record" => of.get("fields")?.get(&field.node)?.clone(),
                "map" => of.get("of")?.clone(),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(if kind(&found) == "optional" { found.get("of")?.clone() } else { found })
}

/// The type of what is gone through.
fn element(over: &AstExpr, names: &Names) -> Option<Value> {
    if let Expr::Call(callee, args) = &over.node
        && Name::of(callee).is_some_and(|name| name.first == "enumerate" && name.field.is_none())
        && let [argument] = &args.args[..]
        && let Argument::Positional(of) = &argument.node
    {
        return Some(Value::map([("type", Value::text("pair")), ("of", element(of, names)?)]));
    }
    type_of(over, names).filter(|of| kind(of) == "list")?.get("of").cloned()
}
