//! A value as it is written, and whether it can be of a type.

use spool_function::own::nearest;
use spool_function::stub::in_words;
use spool_rules::schema::conform;
use spool_rules::value::Value;
use starlark_syntax::lexer::TokenInt;
use starlark_syntax::syntax::ast::{AstExpr, AstLiteral, BinOp, Expr};

use super::Found;

/// What is wrong with arguments.
pub(super) const BAD: &str = "bad_arguments";

/// The value, if the text says all of it.
pub(super) fn value(expression: &AstExpr) -> Option<Value> {
    Some(match &expression.node {
        Expr::Literal(AstLiteral::String(text)) => Value::text(text.node.as_str()),
        Expr::Literal(AstLiteral::Int(int)) => match int.node {
            TokenInt::I32(int) => Value::Int(int.into()),
            TokenInt::BigInt(_) => return None,
        },
        Expr::Literal(AstLiteral::Float(float)) => Value::number(float.node),
        Expr::Identifier(name) => match name.node.ident.as_str() {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            _ => return None,
        },
        Expr::Minus(of) => match value(of)? {
            Value::Int(int) => Value::Int(-int),
            Value::Float(float) => Value::number(-float.get()),
            _ => return None,
        },
        Expr::List(all) | Expr::Tuple(all) => Value::list(all.iter().map(value).collect::<Option<Vec<_>>>()?),
        Expr::Dict(entries) => {
            let entries = entries.iter().map(|(key, of)| Some((value(key)?.as_text()?.to_owned(), value(of)?)));
            Value::map(entries.collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    })
}

/// The text of a literal.
pub(super) fn text(expression: &AstExpr) -> Option<&str> {
    match &expression.node {
        Expr::Literal(AstLiteral::String(text)) => Some(&text.node),
        _ => None,
    }
}

/// What kind of value an expression has, whatever else it is.
fn kind(expression: &AstExpr) -> Option<&'static str> {
    Some(match &expression.node {
        Expr::List(_) | Expr::Tuple(_) | Expr::ListComprehension(..) => "list",
        Expr::Dict(_) | Expr::DictComprehension(..) => "dict",
        Expr::FString(_) => "text",
        Expr::Op(left, BinOp::Percent, _) if text(left).is_some() => "text",
        Expr::Lambda(_) => "function",
        Expr::Not(_) => "bool",
        Expr::Op(_, BinOp::Equal | BinOp::NotEqual | BinOp::Less | BinOp::Greater | BinOp::In | BinOp::NotIn, _) => {
            "bool"
        }
        _ => value(expression)?.kind(),
    })
}

/// Holds an expression against a type. `path`: where it stands in the arguments.
pub(super) fn check(expression: &AstExpr, schema: &Value, path: &str, found: &mut Vec<Found>) {
    if let Expr::If(parts) = &expression.node {
        check(&parts.1, schema, path, found);
        check(&parts.2, schema, path, found);
        return;
    }
    let type_of = schema.get("type").and_then(Value::as_text).unwrap_or("any");
    if type_of == "any" {
        return;
    }
    let of = schema.get("of");
    if let ("optional", Some(of)) = (type_of, of) {
        if value(expression) != Some(Value::Null) {
            check(expression, of, path, found);
        }
        return;
    }
    let Some(kind) = kind(expression) else { return };
    let fits = match type_of {
        "uri" | "text" => kind == "text",
        "bool" => kind == "bool",
        "number" => kind == "number",
        "int" => kind == "number" && matches!(value(expression), None | Some(Value::Int(_))),
        "list" => kind == "list",
        "map" | "record" => kind == "dict" || kind == "map",
        "choice" => match (value(expression), of) {
            (Some(given), Some(Value::List(values))) => values.contains(&given),
            _ => true,
        },
        _ => true,
    };
    if !fits {
        let given = value(expression).map_or_else(|| format!("a {kind}"), |value| value.to_string());
        let hint = match (type_of, of, text(expression)) {
            ("choice", Some(Value::List(values)), Some(text)) => hint(text, values.iter().filter_map(Value::as_text)),
            _ => String::new(),
        };
        let wanted = in_words(schema);
        found.push(Found::error(expression.span, BAD, format!("{path}: {given} is not {wanted}{hint}")));
        return;
    }
    if let ("int" | "number" | "uri", Some(value)) = (type_of, value(expression))
        && let Err(mismatch) = conform(schema, &value)
    {
        found.push(Found::error(expression.span, BAD, format!("{path}: {}", mismatch.what)));
    }
    match (&expression.node, type_of, of) {
        (Expr::List(all) | Expr::Tuple(all), "list", Some(of)) => {
            for (at, one) in all.iter().enumerate() {
                check(one, of, &format!("{path}[{at}]"), found);
            }
        }
        (Expr::ListComprehension(each, ..), "list", Some(of)) => check(each, of, &format!("{path}[]"), found),
        (Expr::Dict(entries), "map", Some(of)) => {
            for (key, value) in entries {
                check(value, of, &join(path, text(key).unwrap_or("…")), found);
            }
        }
        (Expr::Dict(entries), "record", _) => {
            let mut given = Vec::new();
            let mut whole = true;
            for (key, value) in entries {
                match text(key) {
                    Some(name) => given.push((name, key, value)),
                    None => whole = false,
                }
            }
            record(expression, &given, whole, schema, path, found);
        }
        _ => {}
    }
}

/// Fields by name, with the expressions that name them and that they have. `whole`: there are no others.
pub(super) fn record(
    at: &AstExpr,
    given: &[(&str, &AstExpr, &AstExpr)],
    whole: bool,
    schema: &Value,
    path: &str,
    found: &mut Vec<Found>,
) {
    let Some(Value::Map(fields)) = schema.get("fields") else { return };
    for (name, key, value) in given {
        match fields.get(*name) {
            Some(field) => check(value, field, &join(path, name), found),
            None => {
                let known: Vec<&str> = fields.keys().map(AsRef::as_ref).collect();
                let hint = hint(name, known.iter().copied());
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                let message = format!("{}: there is no such field{hint}; there are {known}", join(path, name));
                found.push(Found::error(key.span, BAD, message));
            }
        }
    }
    if !whole {
        return;
    }
    let needed = fields.iter().filter(|(_, field)| field.get("type").and_then(Value::as_text) != Some("optional"));
    for (name, field) in needed {
        if !given.iter().any(|(given, ..)| *given == name.as_ref()) {
            let message = format!("{}: it is missing; it is to be {}", join(path, name), in_words(field));
            found.push(Found::error(at.span, BAD, message));
        }
    }
}

fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; {near} may be meant"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
