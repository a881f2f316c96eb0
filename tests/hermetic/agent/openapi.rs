//! The description for programs, `docs/openapi.yaml`, against the routes, the parameters, the codes and live answers: what is
//! there is described, and what is described is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use syn::visit::Visit;

use super::rig::Plan;
use super::wire::{FORM, Reply, ask, get, post, request};

struct Description(Value);

impl Description {
    fn read() -> Self {
        Self(serde_yaml_ng::from_str(include_str!("../../../docs/openapi.yaml")).unwrap())
    }

    /// What stands there, behind its reference if it is one.
    fn behind<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(to) => self.0.pointer(to.trim_start_matches('#')).unwrap_or_else(|| panic!("`{to}` leads nowhere")),
            None => value,
        }
    }

    /// Every operation, by method and path.
    fn operations(&self) -> BTreeMap<(String, String), &Value> {
        let paths = self.0["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &'_ Value)| {
            let methods = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
            let said = methods.into_iter().filter(|method| item.get(method).is_some());
            said.map(|method| (method.to_owned(), path.clone())).collect::<Vec<_>>()
        };
        let keys = paths.iter().flat_map(of_path);
        keys.map(|key| (key.clone(), &self.0["paths"][&key.1][&key.0])).collect()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.0["paths"][path][method]
    }

    fn response(&self, method: &str, path: &str, status: u16) -> &Value {
        let said = &self.operation(method, path)["responses"][status.to_string()];
        assert!(said.is_object(), "{method} {path} may not answer {status}");
        self.behind(said)
    }

    /// The error codes by their status.
    fn codes(&self) -> BTreeMap<u64, BTreeSet<String>> {
        let responses = self.0["components"]["responses"].as_object().unwrap().values();
        let of_error = |response: &Value| {
            let said = response.pointer("/content/application~1json/schema/allOf/1/properties")?;
            let codes = said["error"]["enum"].as_array()?.iter().map(|code| code.as_str().unwrap().to_owned());
            Some((said["status"]["const"].as_u64()?, codes.collect()))
        };
        responses.filter_map(of_error).collect()
    }

    /// The parameters of a query, or of a form.
    fn parameters(&self, method: &str, path: &str) -> BTreeSet<String> {
        let operation = self.operation(method, path);
        let listed = operation["parameters"].as_array().into_iter().flatten().map(|parameter| self.behind(parameter));
        let query = listed.filter(|parameter| parameter["in"] == "query").map(|one| one["name"].as_str().unwrap());
        let mut names: BTreeSet<_> = query.map(ToOwned::to_owned).collect();
        let form = "/requestBody/content/application~1x-www-form-urlencoded/schema";
        if let Some(schema) = operation.pointer(form) {
            self.properties(schema, &mut names);
        }
        names
    }

    fn properties(&self, schema: &Value, names: &mut BTreeSet<String>) {
        let schema = self.behind(schema);
        names.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        schema["allOf"].as_array().into_iter().flatten().for_each(|part| self.properties(part, names));
    }

    /// Whether an answer is as `response` says: each header and the body.
    fn holds(&self, response: &Value, reply: &Reply, about: &str) {
        let empty = serde_json::Map::new();
        let headers = response["headers"].as_object().unwrap_or(&empty);
        let of_http = ["content-type", "content-length", "date", "connection", "transfer-encoding"];
        for name in reply.header_names().filter(|name| !of_http.contains(name)) {
            let said = headers.keys().any(|key| key.eq_ignore_ascii_case(name));
            assert!(said, "{about}: the header `{name}` is not described");
        }
        for (name, header) in headers {
            let (header, value) = (self.behind(header), reply.header(&name.to_lowercase()));
            assert!(value.is_some() || header["required"] != true, "{about}: the header `{name}` is missing");
            if let Some(value) = value {
                let number = header["schema"]["type"] == "integer";
                let value = if number { value.parse::<u64>().unwrap().into() } else { Value::from(value) };
                self.fits(&header["schema"], &value, &format!("{about}: {name}"));
            }
        }
        if response["content"].get("text/event-stream").is_some() {
            assert_eq!(reply.header("content-type"), Some("text/event-stream"), "{about}");
            return;
        }
        assert_eq!(reply.header("content-type"), Some("application/json"), "{about}");
        self.fits(&response["content"]["application/json"]["schema"], &reply.json(), about);
    }

    /// Whether `value` fits a schema, as far as this description uses JSON Schema; a keyword that is new fails.
    fn fits(&self, schema: &Value, value: &Value, about: &str) {
        if schema.get("$ref").is_some() {
            self.fits(self.behind(schema), value, about);
        }
        for (keyword, said) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$ref" | "description" | "properties" | "items" => true,
                "const" => value == said,
                "enum" => said.as_array().unwrap().contains(value),
                "type" => is_of(said, value),
                "minimum" => value.as_u64() >= said.as_u64(),
                "pattern" => regex::Regex::new(said.as_str().unwrap()).unwrap().is_match(value.as_str().unwrap()),
                "required" => said.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
                "additionalProperties" => value.as_object().unwrap().iter().all(|(name, member)| {
                    let listed = schema["properties"].get(name).is_some();
                    if !listed && said.is_object() {
                        self.fits(said, member, &format!("{about}: {name}"));
                    }
                    listed || *said != Value::Bool(false)
                }),
                "allOf" => {
                    said.as_array().unwrap().iter().for_each(|part| self.fits(part, value, about));
                    true
                }
                other => panic!("`{other}` is not understood here"),
            };
            assert!(holds, "{about}: {value} is not `{keyword}: {said}`");
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(member) = value.get(name) {
                self.fits(schema, member, &format!("{about}: {name}"));
            }
        }
        if let Some(schema) = schema.get("items") {
            value.as_array().unwrap().iter().for_each(|item| self.fits(schema, item, about));
        }
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("null") => value.is_null(),
        Some(other) => panic!("`{other}` is no type"),
        None => kind.as_array().unwrap().iter().any(|kind| is_of(kind, value)),
    }
}

// ── what the source says

/// The routes of a router, by method and path: `.route("/path", get(…).post(…))`.
#[derive(Default)]
struct Routes(BTreeSet<(String, String)>);

impl<'ast> Visit<'ast> for Routes {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "route" {
            let (Some(syn::Expr::Lit(path)), Some(methods)) = (call.args.first(), call.args.last()) else {
                panic!("a route whose path is not written there")
            };
            let syn::Lit::Str(path) = &path.lit else { panic!("a path is a text") };
            let mut named = Methods::default();
            named.visit_expr(methods);
            assert!(!named.0.is_empty(), "`{}` has no method", path.value());
            self.0.extend(named.0.into_iter().map(|method| (method, path.value())));
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

#[derive(Default)]
struct Methods(BTreeSet<String>);

impl<'ast> Visit<'ast> for Methods {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.0.insert(call.method.to_string());
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(path) = &*call.func {
            self.0.insert(path.path.segments.last().unwrap().ident.to_string());
        }
        syn::visit::visit_expr_call(self, call);
    }
}

/// Every text that is written there.
#[derive(Default)]
struct Texts(Vec<String>);

impl<'ast> Visit<'ast> for Texts {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.push(text.value());
    }
}

/// The function `name` of the `impl` of `of`.
fn function<'a>(file: &'a syn::File, of: &str, name: &str) -> &'a syn::ImplItemFn {
    let of_type = |item: &'a syn::Item| {
        let syn::Item::Impl(block) = item else { return None };
        let syn::Type::Path(path) = &*block.self_ty else { return None };
        (block.trait_.is_none() && path.path.is_ident(of)).then_some(&block.items)
    };
    let functions = file.items.iter().filter_map(of_type).flatten();
    let mut named = functions.filter_map(|item| {
        let syn::ImplItem::Fn(function) = item else { return None };
        (function.sig.ident == name).then_some(function)
    });
    named.next().unwrap_or_else(|| panic!("`{of}::{name}` is not there"))
}

fn source(path: &str) -> syn::File {
    syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap()
}

fn routes() -> BTreeSet<(String, String)> {
    let mut routes = Routes::default();
    routes.visit_file(&source("src/api/routes.rs"));
    routes.0
}

/// The parameters that a token request may have.
fn parameters() -> BTreeSet<String> {
    let mut arms = arms_of("TokenForm");
    assert!(arms.remove("client_credentials"), "a value, not a parameter");
    arms
}

/// What `parse` of `form` tells apart: texts of patterns, apart from those that are refused in this version.
fn arms_of(form: &str) -> BTreeSet<String> {
    struct Arms(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Arms {
        fn visit_arm(&mut self, arm: &'ast syn::Arm) {
            let (mut texts, mut refused) = (Texts::default(), Methods::default());
            texts.visit_pat(&arm.pat);
            refused.visit_expr(&arm.body);
            if !refused.0.contains("NotAvailable") {
                self.0.extend(texts.0);
            }
            syn::visit::visit_arm(self, arm);
        }
    }
    let file = source("src/api/form.rs");
    let mut arms = Arms(BTreeSet::new());
    arms.visit_impl_item_fn(function(&file, form, "parse"));
    arms.0
}

/// A path with what the rig has in the place of its parameters.
fn filled(path: &str) -> String {
    path.replace("{provider}", "stripe").replace("{name}", "api-key")
}

// ── both ways

#[test]
fn every_route_is_described_and_every_described_one_is_a_route() {
    let described: BTreeSet<_> = Description::read().operations().into_keys().collect();
    assert_eq!(described, routes());
}

#[test]
fn every_parameter_is_described_and_every_described_one_is_read() {
    let description = Description::read();
    let mut read = parameters();
    assert_eq!(description.parameters("post", "/token"), read);
    // In the path it stands already.
    read.remove("provider");
    assert_eq!(description.parameters("post", "/token/{provider}"), read);
    assert_eq!(description.parameters("get", "/token/{provider}"), read);
    assert_eq!(description.parameters("get", "/secret/{name}"), arms_of("SecretQuery"));
}

#[test]
fn every_error_code_is_described_with_its_status_here_and_in_the_page() {
    let described = Description::read().codes();
    let mut in_page: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let page = include_str!("../../../docs/api.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| status | `error`")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let codes: Vec<_> = cells[2].split('`').skip(1).step_by(2).collect();
        let statuses: Vec<u64> = cells[1].split(", ").map(|status| status.parse().unwrap()).collect();
        for (nth, code) in codes.into_iter().enumerate() {
            let status = statuses.get(nth).unwrap_or(&statuses[0]);
            in_page.entry(*status).or_default().insert(code.to_owned());
        }
    }
    assert_eq!(described, in_page);
    let file = source("src/broker/refused.rs");
    let mut in_code = Texts::default();
    in_code.visit_impl_item_fn(function(&file, "Why", "code"));
    let all: BTreeSet<_> = described.into_values().flatten().collect();
    assert_eq!(all, in_code.0.into_iter().filter(|text| !text.contains(' ')).collect());
}

#[tokio::test]
async fn every_described_operation_answers_and_its_answer_is_as_described() {
    let (rig, description) = (Plan::with_a_secret().raise_with_a_secret().await, Description::read());
    let form = "grant_type=client_credentials&provider=stripe&scope=charges:read&token=none-of-ours";
    for ((method, path), operation) in description.operations() {
        let filled = filled(&path);
        assert!(!filled.contains('{'), "`{path}`: the test knows nothing to put there");
        let said = operation["parameters"].as_array().into_iter().flatten();
        let guard =
            said.map(|one| description.behind(one)).any(|one| one["name"] == "Bursar" && one["required"] == true);
        let body = operation.get("requestBody").map_or("", |_| form);
        let kind = if body.is_empty() { "" } else { FORM };
        let asked = |guarded: bool| {
            let headers = if guarded { format!("Bursar: 1\r\n{kind}") } else { kind.to_owned() };
            request(&method.to_uppercase(), &filled, &headers, body)
        };
        let about = format!("{method} {path}");
        let reply = ask(&rig.socket("checkout"), asked(guard)).await;
        assert_eq!(reply.status, 200, "{about}: {reply:?}");
        description.holds(description.response(&method, &path, 200), &reply, &about);
        let unguarded = ask(&rig.socket("checkout"), asked(false)).await;
        assert_eq!(unguarded.status, if guard { 400 } else { 200 }, "{about}, without the guard");
    }
}

#[tokio::test]
async fn every_error_that_can_be_provoked_is_as_described() {
    let (rig, description) = (Plan::with_a_secret().raise_with_a_secret().await, Description::read());
    let long = format!("grant_type=client_credentials&x={}", "x".repeat(17 * 1024));
    for (socket, asked, method, path, status) in [
        ("checkout", request("GET", "/token/stripe", "", ""), "get", "/token/{provider}", 400),
        ("checkout", post("bare", ""), "post", "/token/{provider}", 400),
        ("checkout", request("POST", "/token", FORM, "grant_type=password"), "post", "/token", 400),
        ("checkout", get("/token/no-such-thing"), "get", "/token/{provider}", 403),
        ("bursar", post("stripe", ""), "post", "/token/{provider}", 403),
        ("checkout", request("POST", "/token/stripe", FORM, &long), "post", "/token/{provider}", 413),
        ("checkout", post("wrong", ""), "post", "/token/{provider}", 502),
        ("checkout", post("missing", ""), "post", "/token/{provider}", 503),
        ("bursar", request("GET", "/whoami", "", ""), "get", "/whoami", 403),
        ("checkout", request("GET", "/secret/api-key", "", ""), "get", "/secret/{name}", 400),
        ("reports", get("/secret/api-key"), "get", "/secret/{name}", 403),
        ("checkout", get("/secret/unput"), "get", "/secret/{name}", 404),
    ] {
        let reply = ask(&rig.socket(socket), &asked).await;
        assert_eq!(reply.status, status, "{asked}");
        description.holds(description.response(method, path, status), &reply, &asked);
    }
    for (asked, status, name) in [(get("/nothing"), 404, "NotFound"), (post("", ""), 404, "NotFound")] {
        let reply = ask(&rig.socket("checkout"), &asked).await;
        assert_eq!(reply.status, status, "{asked}");
        description.holds(&description.0["components"]["responses"][name], &reply, &asked);
    }
}

#[tokio::test]
async fn a_method_that_is_not_described_is_none() {
    let (rig, description) = (Plan::with_a_secret().raise_with_a_secret().await, Description::read());
    let operations = description.operations();
    let paths: BTreeSet<_> = operations.keys().map(|(_, path)| path).collect();
    for path in paths {
        for method in ["get", "put", "post", "delete", "patch"] {
            if operations.contains_key(&(method.to_owned(), path.clone())) {
                continue;
            }
            let asked = request(&method.to_uppercase(), &filled(path), "Bursar: 1\r\n", "");
            let reply = ask(&rig.socket("checkout"), &asked).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            description.holds(&description.0["components"]["responses"]["MethodNotAllowed"], &reply, &asked);
        }
    }
}

#[test]
#[should_panic(expected = "is not `additionalProperties: false`")]
fn an_answer_that_says_more_than_is_described_is_found() {
    let description = Description::read();
    let schema = &description.0["components"]["schemas"]["Token"];
    let token = r#"{"access_token":"a","token_type":"Bearer","age":0,"stale":false,"new":1}"#;
    description.fits(schema, &serde_json::from_str(token).unwrap(), "planted");
}
