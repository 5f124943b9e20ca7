//! Finding every import of a module, and writing out what a bundler would have to guess.

use std::collections::HashMap;
use std::ops::Range;

use deno_ast::swc::ast::{
    AssignExpr, AssignTarget, CallExpr, Callee, ExportAll, Expr, ExprOrSpread, IdentName, ImportDecl, KeyValueProp,
    Lit, MemberExpr, MemberProp, Module, ModuleDecl, ModuleItem, NamedExport, ObjectLit, Prop, PropName, PropOrSpread,
    SimpleAssignTarget, Str, TsExportAssignment, TsImportEqualsDecl, TsModuleRef,
};
use deno_ast::swc::common::DUMMY_SP;
use deno_ast::swc::ecma_visit::{VisitMut, VisitMutWith};
use deno_ast::{SourceRangedForSpanned, StartSourcePos};

use super::resolve::{COMMON_JS, Kind, Refusal, Target};

/// Most imports of one module.
const MAX_IMPORTS: usize = 10_000;

/// What is wrong with import attributes that do not name a type.
const NO_TYPE: &str = "these import attributes have no type that can be read";

/// Resolves a specifier with the `type` of its import attributes.
pub(super) type Resolve<'a> = &'a mut dyn FnMut(&str, Option<&str>) -> Result<(Target, String), Refusal>;

/// The specifier in the bundle and what it means.
type Answer = (String, Result<Target, Refusal>);

/// One import as it is written.
pub(super) struct Import {
    /// Bytes of the specifier.
    pub(super) span: Range<usize>,
    /// The specifier in the bundle.
    pub(super) emitted: String,
    /// What it means.
    pub(super) target: Result<Target, Refusal>,
}

/// A change to the source text of a module that is not transpiled. Without text, blanks take the place of the span, so
/// that nothing after it moves.
pub(super) struct Edit {
    pub(super) span: Range<usize>,
    pub(super) text: String,
}

/// What the walk over a module finds. The walk also rewrites the tree.
pub(super) struct Imports<'a> {
    resolve: Resolve<'a>,
    /// Answers so far, by specifier and attribute.
    known: HashMap<(String, Option<String>), Answer>,
    pub(super) found: Vec<Import>,
    pub(super) edits: Vec<Edit>,
    /// Errors that have nothing to do with where an import leads.
    pub(super) refused: Vec<(Range<usize>, Refusal)>,
    /// Bytes of dynamic imports whose specifier is computed.
    pub(super) computed: Vec<Range<usize>>,
    common_js: Option<Range<usize>>,
}

impl<'a> Imports<'a> {
    /// Walks over `module`, resolving and rewriting every import.
    pub(super) fn of(module: &mut Module, resolve: Resolve<'a>) -> Self {
        let mut imports = Self {
            resolve,
            known: HashMap::new(),
            found: Vec::new(),
            edits: Vec::new(),
            refused: Vec::new(),
            computed: Vec::new(),
            common_js: None,
        };
        module.visit_mut_with(&mut imports);
        let is_es_module = module.body.iter().any(|item| match item {
            ModuleItem::ModuleDecl(decl) => {
                !matches!(decl, ModuleDecl::TsImportEquals(_) | ModuleDecl::TsExportAssignment(_))
            }
            ModuleItem::Stmt(_) => false,
        });
        if let Some(span) = imports.common_js.take().filter(|_| !is_es_module) {
            imports.refuse(span, "this is a CommonJS module", COMMON_JS);
        }
        imports
    }

    fn refuse(&mut self, span: Range<usize>, message: &str, help: &str) {
        if self.refused.len() == MAX_IMPORTS {
            return;
        }
        self.refused.push((span, Refusal { message: message.to_owned(), help: help.to_owned() }));
    }

    /// Resolves one import and rewrites its specifier when it was a guess. The answer is the kind of file it names.
    fn import(&mut self, specifier: &mut Str, attribute: Option<String>) -> Option<Kind> {
        let span = bytes(specifier);
        if self.found.len() == MAX_IMPORTS {
            self.refuse(span, &format!("a module has at most {MAX_IMPORTS} imports"), "");
            return None;
        }
        let Some(text) = specifier.value.as_str() else {
            self.refuse(span, "the specifier is not valid Unicode", "");
            return None;
        };
        let key = (text.to_owned(), attribute);
        let (emitted, target) = match self.known.get(&key) {
            Some(known) => known.clone(),
            None => {
                let answer = match (self.resolve)(text, key.1.as_deref()) {
                    Ok((target, emitted)) => (emitted, Ok(target)),
                    Err(refusal) => (text.to_owned(), Err(refusal)),
                };
                self.known.insert(key, answer.clone());
                answer
            }
        };
        let kind = match &target {
            Ok(Target::File { kind, .. }) => Some(*kind),
            _ => None,
        };
        if emitted != text && target.is_ok() {
            self.edits.push(Edit { span: span.clone(), text: quoted(&emitted) });
            specifier.value = emitted.as_str().into();
            specifier.raw = None;
        }
        self.found.push(Import { span, emitted, target });
        kind
    }

    /// An import with its specifier and attributes at fixed places. JSON asks for its attribute and text must not have
    /// one, whatever the author wrote: text is JavaScript in the bundle.
    fn declared(&mut self, specifier: &mut Str, with: &mut Option<Box<ObjectLit>>) {
        let attribute = with.as_ref().and_then(|with| attribute_type(with));
        if let (Some(with), None) = (&with, &attribute) {
            self.refuse(bytes(&**with), NO_TYPE, "the types are \"json\" and \"text\"");
        }
        let end = bytes(specifier).end;
        match (self.import(specifier, attribute), with.as_ref().map(|with| bytes(&**with).end)) {
            (Some(Kind::Json), None) => {
                *with = Some(Box::new(object("type", Expr::Lit(Lit::Str("json".into())))));
                self.edits.push(Edit { span: end..end, text: " with { type: \"json\" }".to_owned() });
            }
            (Some(Kind::Text), Some(with_end)) => {
                *with = None;
                self.edits.push(Edit { span: end..with_end, text: String::new() });
            }
            _ => {}
        }
    }

    fn dynamic(&mut self, call: &mut CallExpr) {
        let span = bytes(call);
        let Some(first) = call.args.first() else { return };
        let Some(mut specifier) = literal(&first.expr) else {
            self.computed.push(span);
            return;
        };
        let options = call.args.get(1).map(|options| bytes(&*options.expr));
        let attribute = call.args.get(1).and_then(|options| option_type(&options.expr));
        if let (Some(options), None) = (&options, &attribute) {
            self.refuse(options.clone(), NO_TYPE, "write import(\"./file.json\", { with: { type: \"json\" } })");
        }
        let end = bytes(&specifier).end;
        match (self.import(&mut specifier, attribute), options) {
            (Some(Kind::Json), None) => {
                let attributes = object("type", Expr::Lit(Lit::Str("json".into())));
                let options = Expr::Object(object("with", Expr::Object(attributes)));
                call.args.push(ExprOrSpread { spread: None, expr: Box::new(options) });
                let text = ", { with: { type: \"json\" } }".to_owned();
                self.edits.push(Edit { span: end..end, text });
            }
            (Some(Kind::Text), Some(options)) => {
                call.args.truncate(1);
                self.edits.push(Edit { span: end..options.end, text: String::new() });
            }
            _ => {}
        }
        *call.args[0].expr = Expr::Lit(Lit::Str(specifier));
    }
}

impl VisitMut for Imports<'_> {
    fn visit_mut_import_decl(&mut self, import: &mut ImportDecl) {
        if !import.type_only {
            self.declared(&mut import.src, &mut import.with);
        }
    }

    fn visit_mut_export_all(&mut self, export: &mut ExportAll) {
        if !export.type_only {
            self.declared(&mut export.src, &mut export.with);
        }
    }

    fn visit_mut_named_export(&mut self, export: &mut NamedExport) {
        if let Some(src) = export.src.as_mut().filter(|_| !export.type_only) {
            self.declared(src, &mut export.with);
        }
    }

    fn visit_mut_ts_import_equals_decl(&mut self, import: &mut TsImportEqualsDecl) {
        if matches!(import.module_ref, TsModuleRef::TsExternalModuleRef(_)) && !import.is_type_only {
            self.refuse(bytes(import), "import = require() is CommonJS", "write import … from …");
        }
    }

    fn visit_mut_ts_export_assignment(&mut self, export: &mut TsExportAssignment) {
        self.refuse(bytes(export), "export = is CommonJS", "write export default …");
    }

    fn visit_mut_call_expr(&mut self, call: &mut CallExpr) {
        match &call.callee {
            Callee::Import(_) => self.dynamic(call),
            Callee::Expr(callee) if callee.is_ident_ref_to("require") && call.args.len() == 1 => {
                self.common_js.get_or_insert(bytes(call));
            }
            _ => {}
        }
        call.visit_mut_children_with(self);
    }

    fn visit_mut_assign_expr(&mut self, assign: &mut AssignExpr) {
        if let AssignTarget::Simple(SimpleAssignTarget::Member(member)) = &assign.left
            && is_exports(member)
        {
            self.common_js.get_or_insert(bytes(assign));
        }
        assign.visit_mut_children_with(self);
    }
}

/// The text of a specifier that is written out: a string, or a template without holes.
fn literal(expr: &Expr) -> Option<Str> {
    match expr {
        Expr::Lit(Lit::Str(text)) => Some(text.clone()),
        Expr::Tpl(template) if template.exprs.is_empty() => {
            let value = template.quasis.first()?.cooked.clone()?;
            Some(Str { span: template.span, value, raw: None })
        }
        _ => None,
    }
}

/// `{ type: "json" }`: the type.
fn attribute_type(attributes: &ObjectLit) -> Option<String> {
    match property(attributes, "type")? {
        Expr::Lit(Lit::Str(text)) => text.value.as_str().map(str::to_owned),
        _ => None,
    }
}

/// `{ with: { type: "json" } }`: the type.
fn option_type(options: &Expr) -> Option<String> {
    let Expr::Object(options) = options else { return None };
    match property(options, "with")? {
        Expr::Object(attributes) => attribute_type(attributes),
        _ => None,
    }
}

fn property<'o>(object: &'o ObjectLit, name: &str) -> Option<&'o Expr> {
    object.props.iter().find_map(|prop| {
        let PropOrSpread::Prop(prop) = prop else { return None };
        let Prop::KeyValue(pair) = &**prop else { return None };
        let same = match &pair.key {
            PropName::Ident(ident) => &*ident.sym == name,
            PropName::Str(text) => text.value.as_str() == Some(name),
            _ => false,
        };
        same.then_some(&*pair.value)
    })
}

/// `{ name: value }`.
fn object(name: &str, value: Expr) -> ObjectLit {
    let key = PropName::Ident(IdentName::new(name.into(), DUMMY_SP));
    let pair = Prop::KeyValue(KeyValueProp { key, value: Box::new(value) });
    ObjectLit { span: DUMMY_SP, props: vec![PropOrSpread::Prop(Box::new(pair))] }
}

/// Whether this is `module.exports` or a member of `exports`.
fn is_exports(member: &MemberExpr) -> bool {
    let is_member_exports = matches!(&member.prop, MemberProp::Ident(name) if &*name.sym == "exports");
    match &*member.obj {
        Expr::Ident(object) => &*object.sym == "exports" || (&*object.sym == "module" && is_member_exports),
        Expr::Member(inner) => is_exports(inner),
        _ => false,
    }
}

/// A string literal of JavaScript.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The bytes a piece of syntax stands on.
fn bytes(node: &impl SourceRangedForSpanned) -> Range<usize> {
    node.range().as_byte_range(StartSourcePos::START_SOURCE_POS)
}
