//! What the programs print.

/// Prints a line about progress or an error on standard error; results go to standard output.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {{
        eprintln!($($what)*);
    }};
}

/// Prints a line of the demo's result on standard output.
macro_rules! show {
    ($($what:tt)*) => {{
        println!($($what)*);
    }};
}

pub(crate) use show;
