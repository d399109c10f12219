//! Values of the language as JSON. The language's own way writes whole numbers beyond 32 bits as text.

use serde_json::{Map, Number, Value as Json};
use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::structs::StructRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{UnpackValue, Value};

/// Values within values.
const DEPTH: usize = 128;

/// # Errors
/// What has no JSON: functions, keys that are no text, numbers beyond 64 bits.
pub(crate) fn json(value: Value<'_>) -> Result<Json, String> {
    within(value, DEPTH)
}

fn within(value: Value<'_>, depth: usize) -> Result<Json, String> {
    let Some(below) = depth.checked_sub(1) else {
        return Err(format!("values lie within values more than {DEPTH} deep"));
    };
    let all = |values: &[Value<'_>]| values.iter().map(|value| within(*value, below)).collect::<Result<Vec<_>, _>>();
    if value.is_none() {
        return Ok(Json::Null);
    }
    if let Some(truth) = value.unpack_bool() {
        return Ok(Json::Bool(truth));
    }
    if let Some(text) = value.unpack_str() {
        return Ok(Json::String(text.to_owned()));
    }
    if value.get_type() == "int" {
        let signed = i64::unpack_value(value).ok().flatten().map(Number::from);
        let unsigned = || u64::unpack_value(value).ok().flatten().map(Number::from);
        let number = signed.or_else(unsigned).ok_or_else(|| format!("{value} has more than 64 bits"))?;
        return Ok(Json::Number(number));
    }
    if let Some(list) = ListRef::from_value(value) {
        return Ok(Json::Array(all(list.content())?));
    }
    if let Some(tuple) = TupleRef::from_value(value) {
        return Ok(Json::Array(all(tuple.content())?));
    }
    if let Some(dict) = DictRef::from_value(value) {
        let entry = |(key, value): (Value<'_>, Value<'_>)| match key.unpack_str() {
            Some(key) => Ok((key.to_owned(), within(value, below)?)),
            None => Err(format!("the key {key} is no text")),
        };
        return Ok(Json::Object(dict.iter().map(entry).collect::<Result<Map<_, _>, String>>()?));
    }
    if let Some(record) = StructRef::from_value(value) {
        let field = |(name, value): (_, Value<'_>)| -> Result<_, String> {
            let name: starlark::values::StringValue<'_> = name;
            Ok((name.as_str().to_owned(), within(value, below)?))
        };
        return Ok(Json::Object(record.iter().map(field).collect::<Result<Map<_, _>, _>>()?));
    }
    value.to_json_value().map_err(|e| format!("a value of type {} is no data: {e}", value.get_type()))
}

#[cfg(test)]
mod tests {
    use starlark::environment::{GlobalsBuilder, LibraryExtension, Module};
    use starlark::eval::Evaluator;
    use starlark::syntax::{AstModule, Dialect};

    use super::*;

    fn eval(text: &str) -> Result<Json, String> {
        let globals = GlobalsBuilder::extended_by(&[LibraryExtension::StructType]).build();
        let ast = AstModule::parse("t", text.to_owned(), &Dialect::Extended).expect("it reads");
        let module = Module::new();
        let mut evaluator = Evaluator::new(&module);
        json(evaluator.eval_module(ast, &globals).expect("it runs"))
    }

    #[test]
    fn values_are_what_they_are_written_as() {
        for (text, expected) in [
            (
                "[1, -5, 2147483648, 1795746019173133, 9223372036854775807, 18446744073709551615]",
                "[1,-5,2147483648,1795746019173133,9223372036854775807,18446744073709551615]",
            ),
            ("{\"a\": struct(b = (1, None, True), c = 0.5)}", r#"{"a":{"b":[1,null,true],"c":0.5}}"#),
        ] {
            assert_eq!(eval(text).map(|json| json.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for (text, why) in [("1 << 64", "64 bits"), ("{1: 2}", "no text"), ("[len]", "no data")] {
            assert!(eval(text).expect_err(text).contains(why), "{text}");
        }
    }
}
