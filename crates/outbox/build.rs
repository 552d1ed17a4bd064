//! A new migration is a new file, which the compiler does not know yet: cargo is told to look.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
