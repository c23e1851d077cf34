//! `--live`: a table of the connections on a terminal, drawn each second.
//!
//! The program's output is never touched: the table gets a terminal to which the program does not write, or there is
//! none.

mod board;
mod screen;
mod table;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use board::{Board, Shot, Shown};
pub(crate) use screen::Screen;
pub use screen::Terminal;

use crate::run::Run;

/// The interval of the table.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Draws until the run ends.
pub(crate) async fn draw(run: Rc<Run>, mut screen: Screen) -> Infallible {
    loop {
        if let Some(board) = &run.board {
            screen.show(|size| table::render(&board.look(), &run.command_line(), size));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Run {
    /// Shows a connection or flow in the table for as long as the caller has it.
    pub(crate) fn show<T: Shown + 'static>(&self, account: T) -> Rc<T> {
        let account = Rc::new(account);
        if let Some(board) = &self.board {
            account.observe();
            board.enter(account.clone());
        }
        account
    }

    fn command_line(&self) -> String {
        self.plan.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}
