//! Sections run: what a rule found goes in, effects come out.

use starlark::environment::Module;
use starlark::eval::Evaluator;
use starlark::values::Value;

use spool_rules::effect::Effect;
use spool_rules::history::SectionFailure;
use spool_rules::instance::{Ask, Sections};

use crate::compile::{CALL_DEPTH, Compiled};
use crate::json::json;
use crate::words::{self, Moment, section_name};

/// Effects that one section may answer.
const EFFECTS: usize = 200_000;

impl Sections for &Compiled {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        let given = ask.bindings.iter().map(|(name, value)| (name.as_ref(), value.clone()));
        let outcome = ask.outcome.map(|value| (outcome_name(ask.section), value.clone()));
        let given: Vec<_> = given.chain(outcome).collect();
        self.section(ask.rule, ask.section.name(), &given, ask.now.0, ask.firing)
    }
}

/// How a section names what came of its effects.
pub(crate) fn outcome_name(section: spool_rules::history::Section) -> &'static str {
    match section {
        spool_rules::history::Section::Error => "err",
        _ => "results",
    }
}

impl Compiled {
    /// # Errors
    /// When the section raises, goes beyond its limits, or answers what is no effect.
    pub fn section(
        &self,
        rule: usize,
        section: &'static str,
        given: &[(&str, spool_rules::value::Value)],
        now_us: u64,
        firing: &str,
    ) -> Result<Vec<Effect>, SectionFailure> {
        let missing = || SectionFailure::new("no_section", format!("rule number {rule} has no {section}"));
        let (file, number) = self.places.get(rule).ok_or_else(missing)?;
        let parameters = self.parameters.get(&(rule, section)).ok_or_else(missing)?;
        let function = self.modules[file].get_any_visibility(&section_name(*number, section));
        let (function, _) = function.map_err(|_| missing())?;
        let moment = Moment { now_us, firing: firing.to_owned() };
        let module = Module::new();
        let heap = module.heap();
        let json = {
            let takes = |name: &str| parameters.takes_all || parameters.names.iter().any(|(known, _)| known == name);
            let named: Vec<(&str, Value<'_>)> = given
                .iter()
                .filter(|(name, _)| takes(name))
                .map(|(name, value)| (*name, words::alloc(heap, value)))
                .collect();
            let mut eval = Evaluator::new(&module);
            eval.extra = Some(&moment);
            // A section is short; what it makes goes with its heap.
            eval.disable_gc();
            eval.set_max_callstack_size(CALL_DEPTH).expect("set once");
            let function = function.owned_value(module.frozen_heap());
            let answer = eval.eval_function(function, &[], &named).map_err(raised)?;
            json(answer).map_err(|e| {
                SectionFailure::new(
                    "bad_effects",
                    format!("it answered {}, which is no effect: {e}", answer.get_type()),
                )
            })?
        };
        effects(json)
    }
}

fn raised(error: starlark::Error) -> SectionFailure {
    let place = error.span().map(|span| {
        let at = span.resolve();
        format!("{}:{}:{}: ", at.file, at.span.begin.line + 1, at.span.begin.column + 1)
    });
    let text = error.without_diagnostic().to_string();
    let text = text.trim().trim_start_matches("error:").trim().lines().next().unwrap_or_default().to_owned();
    SectionFailure::new("section_raised", format!("{}{text}", place.unwrap_or_default()))
}

/// None, an effect, or a list of either.
fn effects(json: serde_json::Value) -> Result<Vec<Effect>, SectionFailure> {
    let mut flat = Vec::new();
    flatten(json, &mut flat)?;
    let read = |(at, json): (usize, serde_json::Value)| {
        let name = json.get("effect").and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        serde_path_to_error::deserialize(json).map_err(|e| {
            let path = e.path().to_string();
            let inner = e.into_inner();
            SectionFailure::new("bad_effects", format!("effect {} ({name}): {path}: {inner}", at + 1))
        })
    };
    flat.into_iter().enumerate().map(read).collect()
}

fn flatten(json: serde_json::Value, flat: &mut Vec<serde_json::Value>) -> Result<(), SectionFailure> {
    if flat.len() >= EFFECTS {
        return Err(SectionFailure::new("too_many_effects", format!("it answered more than {EFFECTS} effects")));
    }
    match json {
        serde_json::Value::Null => Ok(()),
        serde_json::Value::Array(list) => list.into_iter().try_for_each(|one| flatten(one, flat)),
        one @ serde_json::Value::Object(_) if one.get("effect").is_some() => {
            flat.push(one);
            Ok(())
        }
        other => {
            let text: String = other.to_string().chars().take(100).collect();
            Err(SectionFailure::new("bad_effects", format!("it answered {text}, which is no effect")))
        }
    }
}
