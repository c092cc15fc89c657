//! `spsync`: software update point and content distribution service.

use std::process::ExitCode;

fn main() -> ExitCode {
    spsync::cli::main()
}
