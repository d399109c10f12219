//! From sources to a rule set and its sections.

use std::collections::BTreeMap;
use std::fmt;

use starlark::docs::{DocItem, DocMember};
use starlark::environment::{FrozenModule, Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::{Evaluator, ReturnFileLoader};
use starlark::syntax::{AstModule, Dialect};

use spool_function::stub::starlark::{self as starlark_stubs, OWN_FILE};
use spool_rules::ruleset::RuleSet;

use crate::file::{MAIN, Problem, Severity, Sources};
use crate::media;
use crate::words::{self, Collector, section_name};

/// Calls within calls.
pub(crate) const CALL_DEPTH: usize = 200;
/// Files of a rule set; bytes of all of them.
const FILES: usize = 64;
const BYTES: usize = 1 << 20;

/// A rule set with its sections.
pub struct Compiled {
    pub set: RuleSet,
    /// File and number of each rule, in the set's order.
    pub(crate) places: Vec<(String, usize)>,
    pub(crate) modules: BTreeMap<String, FrozenModule>,
    /// Names of the parameters of each section that is there.
    pub(crate) parameters: BTreeMap<(usize, &'static str), Parameters>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("set", &self.set).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    pub(crate) names: Vec<(String, bool)>,
    /// It takes whatever is given by name.
    pub(crate) takes_all: bool,
}

pub(crate) fn globals() -> Globals {
    let extensions = [
        LibraryExtension::StructType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Json,
        LibraryExtension::Typing,
    ];
    GlobalsBuilder::extended_by(&extensions)
        .with(words::describing)
        .with(words::types)
        .with(words::effects)
        .with(media::films)
        .build()
}

pub(crate) fn dialect() -> Dialect {
    Dialect { enable_top_level_stmt: true, ..Dialect::Extended }
}

impl Compiled {
    /// # Errors
    /// All that is wrong, in order of place. Warnings alone are no error: [`Compiled::warnings`].
    pub fn new(sources: &Sources) -> Result<Compiled, Vec<Problem>> {
        let whole = |code: &str, message: String| vec![Problem::whole(code, message)];
        if sources.0.len() > FILES || sources.0.values().map(String::len).sum::<usize>() > BYTES {
            return Err(whole("too_large", format!("a service is at most {FILES} files and {BYTES} bytes")));
        }
        let globals = globals();
        let mut reading = Reading {
            sources,
            globals: &globals,
            modules: BTreeMap::new(),
            collectors: Vec::new(),
            under_way: Vec::new(),
        };
        reading.read(MAIN).map_err(|problem| vec![problem])?;
        let Reading { modules, collectors, .. } = reading;
        let mut said = None;
        let (mut rules, mut places, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for collector in collectors {
            said = said.or(collector.service.into_inner());
            for written in collector.rules.into_inner() {
                match serde_path_to_error::deserialize::<_, spool_rules::ruleset::Rule>(&written.rule) {
                    Ok(rule) => {
                        rules.push(rule);
                        places.push((written.file, written.number));
                    }
                    Err(e) => problems.push(Problem {
                        file: written.file,
                        line: written.line,
                        column: 1,
                        severity: Severity::Error,
                        code: "bad_rule".into(),
                        message: format!("rule {}: {}: {}", written.rule["name"], e.path(), e.inner()),
                    }),
                }
            }
        }
        let Some(mut said) = said else {
            return Err(whole("no_service", "service(name = …, version = …) is missing".into()));
        };
        said["hash"] = sources.hash().into();
        said["rules"] = serde_json::Value::Array(Vec::new());
        let mut set: RuleSet =
            serde_json::from_value(said).map_err(|e| whole("bad_service", format!("service(): {e}")))?;
        if let Err(bad) = spool_rules::schema::check_schema(&set.input) {
            problems.push(Problem::whole("bad_service", format!("service(input): {bad}")));
        }
        set.rules = rules;
        if let Err(bad) = set.check() {
            problems.extend(
                bad.into_iter()
                    .map(|bad| at_place(&bad.place, "bad_rule", format!("rule {:?}: {}", bad.rule, bad.what))),
            );
        }
        let mut compiled = Compiled { set, places, modules, parameters: BTreeMap::new() };
        compiled.learn_parameters(&mut problems);
        problems.sort();
        if problems.is_empty() { Ok(compiled) } else { Err(problems) }
    }

    /// Each section's parameters are what its rule finds, or have a default.
    fn learn_parameters(&mut self, problems: &mut Vec<Problem>) {
        for (ix, rule) in self.set.rules.iter().enumerate() {
            let sections = [
                ("action", rule.has_action, None),
                ("reaction", rule.has_reaction, Some("results")),
                ("error", rule.has_error, Some("err")),
            ];
            for (section, is_there, more) in sections {
                if !is_there {
                    continue;
                }
                let (file, number) = &self.places[ix];
                let Ok(function) = self.modules[file].get_any_visibility(&section_name(*number, section)) else {
                    continue;
                };
                let DocItem::Member(DocMember::Function(doc)) = function.0.value().documentation() else {
                    problems.push(at_place(
                        &rule.place,
                        "bad_rule",
                        format!("rule {:?}: {section} is not a function", rule.name),
                    ));
                    continue;
                };
                let names: Vec<_> =
                    doc.params.regular_params().map(|p| (p.name.clone(), p.default_value.is_some())).collect();
                let found: Vec<&str> = rule.patterns.iter().filter_map(|p| p.name.as_deref()).chain(more).collect();
                for (name, has_default) in &names {
                    if !has_default && !found.contains(&name.as_str()) {
                        let message = format!(
                            "rule {:?}: {section} wants {name:?}, and the match finds {}",
                            rule.name,
                            if found.is_empty() { "nothing by name (as_)".into() } else { found.join(", ") }
                        );
                        problems.push(at_place(&rule.place, "unknown_parameter", message));
                    }
                }
                let parameters = Parameters { names, takes_all: doc.params.kwargs.is_some() };
                self.parameters.insert((ix, section), parameters);
            }
        }
    }
}

pub(crate) fn at_place(place: &str, code: &str, message: String) -> Problem {
    let mut parts = place.rsplitn(3, ':');
    let column = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let line = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let file = parts.next().unwrap_or(MAIN).to_owned();
    Problem { file, line, column, severity: Severity::Error, code: code.into(), message }
}

struct Reading<'a> {
    sources: &'a Sources,
    globals: &'a Globals,
    modules: BTreeMap<String, FrozenModule>,
    collectors: Vec<Collector>,
    under_way: Vec<String>,
}

impl Reading<'_> {
    /// Reads a file and, before it, what it loads.
    fn read(&mut self, file: &str) -> Result<(), Problem> {
        if self.modules.contains_key(file) {
            return Ok(());
        }
        let problem = |code: &str, message: String| Problem {
            file: file.to_owned(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            code: code.into(),
            message,
        };
        let text = match file {
            OWN_FILE => starlark_stubs::own(),
            _ => match self.sources.0.get(file) {
                Some(text) => text.clone(),
                None => return Err(problem("no_file", format!("there is no file {file:?} in the service's folder"))),
            },
        };
        if self.under_way.iter().any(|other| other == file) {
            let way = self.under_way.join(" → ");
            return Err(problem("load_circle", format!("{way} → {file}: files load each other in a circle")));
        }
        self.under_way.push(file.to_owned());
        let ast = AstModule::parse(file, text, &dialect()).map_err(|e| Problem::of_error(file, "syntax", &e))?;
        for load in ast.loads() {
            if load.module_id != OWN_FILE && !self.sources.0.contains_key(load.module_id) {
                let at = load.span.resolve_span().begin;
                let message = format!("there is no file {:?} in the service's folder", load.module_id);
                return Err(Problem { line: at.line + 1, column: at.column + 1, ..problem("no_file", message) });
            }
        }
        let loads: Vec<String> = ast.loads().iter().map(|load| load.module_id.to_owned()).collect();
        for load in &loads {
            self.read(load)?;
        }
        self.under_way.pop();
        let collector = Collector { file: file.to_owned(), ..Collector::default() };
        let loaded = self.modules.iter().map(|(name, module)| (name.as_str(), module)).collect();
        let loader = ReturnFileLoader { modules: &loaded };
        let module = Module::new();
        {
            let mut eval = Evaluator::new(&module);
            eval.extra = Some(&collector);
            eval.set_loader(&loader);
            eval.set_max_callstack_size(CALL_DEPTH).expect("set once");
            eval.eval_module(ast, self.globals).map_err(|e| Problem::of_error(file, "raised", &e))?;
        }
        let module = module.freeze().map_err(|e| problem("raised", format!("{e:?}")))?;
        self.modules.insert(file.to_owned(), module);
        self.collectors.push(collector);
        Ok(())
    }
}
