//! A new migration is a new file, which the compiler does not know yet: so cargo has to check the folder.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
