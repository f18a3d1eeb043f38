//! Whether the files of a crate can be read from the ground up: no file needs, by way of others, itself.
//!
//! A file needs what its paths from `crate`, `super` and `self` lead to. A folder's `mod.rs` and the files below it belong
//! together: what they need of each other is no circle. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, Macro, UseTree};

/// A file as the path of its module: `[registry, create]`.
type Module = Vec<String>;

/// The circles of the crate whose sources are in `directory`, each as the sorted paths of its files.
pub(crate) fn circles(directory: &Path) -> Vec<Vec<String>> {
    let mut files = BTreeMap::new();
    collect(directory, &mut Vec::new(), &mut files);
    let known: BTreeSet<Module> = files.keys().cloned().collect();
    let needs = files.into_iter().map(|(module, text)| {
        let needed = needed(&module, &text, &known);
        (module, needed)
    });
    in_circles(&needs.collect())
}

/// The sources below `directory`, apart from binaries and tests.
fn collect(directory: &Path, above: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !["bin", "tests"].contains(&stem.as_str()) {
                above.push(stem);
                collect(&path, above, files);
                above.pop();
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") && !is_apart(&stem) {
            let mut module = above.clone();
            if !["mod", "lib"].contains(&stem.as_str()) {
                module.push(stem);
            }
            files.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn is_apart(stem: &str) -> bool {
    stem == "main" || stem == "tests" || stem.ends_with("_tests")
}

fn needed(module: &Module, text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("/")));
    let mut paths = Paths { module: module.clone(), known, found: BTreeSet::new() };
    paths.visit_file(&file);
    let mut found = paths.found;
    found.retain(|other| !other.starts_with(module) && !module.starts_with(other));
    found
}

/// Collects the files that the paths of one file lead to.
struct Paths<'a> {
    module: Module,
    known: &'a BTreeSet<Module>,
    found: BTreeSet<Module>,
}

impl Paths<'_> {
    fn take(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let supers = path.iter().take_while(|part| *part == "super").count();
        let (mut at, rest) = match first.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (self.module.clone(), &path[1..]),
            "super" if supers <= self.module.len() => {
                (self.module[..self.module.len() - supers].to_vec(), &path[supers..])
            }
            _ => return,
        };
        for part in rest {
            at.push(part.clone());
            if !self.known.contains(&at) {
                at.pop();
                break;
            }
        }
        while !self.known.contains(&at) && at.pop().is_some() {}
        self.found.insert(at);
    }

    fn take_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_tree(before, tree)),
            UseTree::Name(name) => self.take(&[before.as_slice(), &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.take(&[before.as_slice(), &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.take(before),
        }
    }

    /// Paths between the tokens of a macro's call.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.take(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.take(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.take_tokens(group.stream());
                    }
                }
            }
        }
        self.take(&path);
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, inline: &'ast ItemMod) {
        if inline.content.is_some() {
            self.module.push(inline.ident.to_string());
            visit::visit_item_mod(self, inline);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.take(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.take_tokens(call.tokens.clone());
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
    })
}

/// The files that reach themselves, those that reach each other together.
fn in_circles(needs: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        needs.keys().map(|module| (module, reach(needs, module))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for module in needs.keys().filter(|module| reached[*module].contains(*module)) {
        let members: BTreeSet<&Module> =
            reached[module].iter().filter(|other| reached[*other].contains(module)).copied().collect();
        if seen.insert(members.clone()) {
            circles.push(members.into_iter().map(|member| member.join("/")).collect());
        }
    }
    circles
}

fn reach<'a>(needs: &'a BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = needs[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&needs[module]);
        }
    }
    reached
}
