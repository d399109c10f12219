//! The benchmarks run and report; how fast is never a test.

use serde_json::Value;

use crate::processes::Sandbox;

#[test]
fn dispatch_reports_each_layer() {
    let sandbox = Sandbox::new();
    let output = sandbox.spool().args(["bench", "dispatch", "--tasks", "2000", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = report.as_array().unwrap();
    let names: Vec<_> = layers.iter().map(|l| l["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["core", "durable", "grpc", "exec"]);
    for layer in layers {
        assert_eq!(layer["tasks"], 2000, "{layer}");
        assert!(layer["tasks_per_second"].as_f64().unwrap() > 0.0, "{layer}");
    }
}
