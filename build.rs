//! The migrations are compiled in: a changed or new file must rebuild the program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=config/default.yml");
}
