//! A file of rules as its text says it: definitions, what is loaded, which names mean something else somewhere.

use std::collections::{BTreeMap, BTreeSet};

use spool_rules::value::Value;
use starlark::syntax::AstModule;
use starlark_syntax::codemap::Span;
use starlark_syntax::syntax::ast::{
    AssignTarget, AstAssignTarget, AstExpr, AstNoPayload, AstParameter, AstStmt, Clause, DefP, Expr, ForClause, Stmt,
};
use starlark_syntax::syntax::module::AstModuleFields;
use starlark_syntax::syntax::uniplate::Visit;

use super::literal;
use crate::compile::dialect;

pub(super) struct File {
    pub(super) name: String,
    ast: AstModule,
    /// Names of the top level that are loaded: from which file, and what they are called there.
    pub(super) loads: BTreeMap<String, (String, String)>,
    /// Names that are a parameter or are assigned to anywhere, and those that are defined twice: what they mean depends on where.
    pub(super) rebound: BTreeSet<String>,
}

/// What is called: `call`, `media.probe`.
pub(super) struct Name<'a> {
    pub(super) first: &'a str,
    pub(super) field: Option<&'a str>,
}

impl<'a> Name<'a> {
    pub(super) fn of(callee: &'a AstExpr) -> Option<Name<'a>> {
        match &callee.node {
            Expr::Identifier(name) => Some(Name { first: &name.node.ident, field: None }),
            Expr::Dot(of, field) => match &of.node {
                Expr::Identifier(name) => Some(Name { first: &name.node.ident, field: Some(&field.node) }),
                _ => None,
            },
            _ => None,
        }
    }
}

impl File {
    /// `None`: it cannot be read, which is told elsewhere.
    pub(super) fn parse(name: &str, text: &str) -> Option<File> {
        let ast = AstModule::parse(name, text.to_owned(), &dialect()).ok()?;
        let mut loads = BTreeMap::new();
        for load in ast.loads() {
            for (local, their) in &load.symbols {
                loads.insert((*local).to_owned(), (load.module_id.to_owned(), (*their).to_owned()));
            }
        }
        let mut file = File { name: name.to_owned(), ast, loads, rebound: BTreeSet::new() };
        file.rebound = file.bindings();
        Some(file)
    }

    pub(super) fn top(&self) -> &AstStmt {
        self.ast.statement()
    }

    /// Line and column, from 1.
    pub(super) fn place(&self, span: Span) -> (usize, usize) {
        let at = self.ast.file_span(span).resolve_span().begin;
        (at.line + 1, at.column + 1)
    }

    /// A function of the top level that is what its name means everywhere in the file.
    pub(super) fn def(&self, name: &str) -> Option<&DefP<AstNoPayload>> {
        if self.rebound.contains(name) {
            return None;
        }
        self.statements().into_iter().find_map(|statement| match &statement.node {
            Stmt::Def(def) if def.name.node.ident == name => Some(def),
            _ => None,
        })
    }

    /// Plain data that a name of the top level has.
    pub(super) fn data(&self, name: &str) -> Option<Value> {
        self.statements().into_iter().find_map(|statement| match &statement.node {
            Stmt::Assign(assign) => match &assign.lhs.node {
                AssignTarget::Identifier(to) if to.node.ident == name => literal::value(&assign.rhs),
                _ => None,
            },
            _ => None,
        })
    }

    /// Every expression, outermost first.
    pub(super) fn expressions<'a>(&'a self, see: &mut dyn FnMut(&'a AstExpr)) {
        every(Visit::Stmt(self.top()), see);
    }

    fn statements(&self) -> Vec<&AstStmt> {
        let mut found = Vec::new();
        flat(self.top(), &mut found);
        found
    }

    fn bindings(&self) -> BTreeSet<String> {
        let (mut bound, mut defined) = (BTreeSet::new(), BTreeSet::new());
        let top: Vec<Span> = self.statements().into_iter().map(|statement| statement.span).collect();
        statements(self.top(), &mut |statement| {
            match &statement.node {
                Stmt::Def(def) => {
                    let name = &def.name.node.ident;
                    // A second one, or one inside another.
                    if !top.contains(&statement.span) || !defined.insert(name.clone()) {
                        bound.insert(name.clone());
                    }
                    bound.extend(parameters(&def.params));
                }
                Stmt::Assign(assign) => bound.extend(targets(&assign.lhs)),
                Stmt::AssignModify(to, _, _) => bound.extend(targets(to)),
                Stmt::For(each) => bound.extend(targets(&each.var)),
                _ => {}
            }
        });
        self.expressions(&mut |expression| match &expression.node {
            Expr::Lambda(lambda) => bound.extend(parameters(&lambda.params)),
            Expr::ListComprehension(_, first, more) | Expr::DictComprehension(_, first, more) => {
                bound.extend(clauses(first, more).flat_map(|clause| targets(&clause.var)));
            }
            _ => {}
        });
        bound
    }
}

fn flat<'a>(statement: &'a AstStmt, found: &mut Vec<&'a AstStmt>) {
    match &statement.node {
        Stmt::Statements(all) => all.iter().for_each(|one| flat(one, found)),
        _ => found.push(statement),
    }
}

fn statements<'a>(statement: &'a AstStmt, see: &mut dyn FnMut(&'a AstStmt)) {
    see(statement);
    statement.visit_stmt(|inner| statements(inner, see));
}

/// Every expression in what is visited, outermost first.
pub(super) fn every<'a>(visit: Visit<'a, AstNoPayload>, see: &mut dyn FnMut(&'a AstExpr)) {
    match visit {
        Visit::Stmt(statement) => statement.visit_children(|child| every(child, see)),
        Visit::Expr(expression) => {
            see(expression);
            expression.visit_expr(|inner| every(Visit::Expr(inner), see));
        }
    }
}

pub(super) fn parameters(all: &[AstParameter]) -> Vec<String> {
    all.iter().filter_map(|parameter| Some(parameter.node.ident()?.node.ident.clone())).collect()
}

/// The names that an assignment sets.
pub(super) fn targets(target: &AstAssignTarget) -> Vec<String> {
    match &target.node {
        AssignTarget::Identifier(name) => vec![name.node.ident.clone()],
        AssignTarget::Tuple(all) => all.iter().flat_map(targets).collect(),
        AssignTarget::Index(_) | AssignTarget::Dot(..) => Vec::new(),
    }
}

pub(super) fn clauses<'a>(first: &'a ForClause, more: &'a [Clause]) -> impl Iterator<Item = &'a ForClause> {
    std::iter::once(first).chain(more.iter().filter_map(|clause| match clause {
        Clause::For(each) => Some(each),
        Clause::If(_) => None,
    }))
}
