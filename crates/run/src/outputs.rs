//! What a run writes beside its report.

use anyhow::Context;

use crate::flight::FlightRecorder;
use crate::live::Screen;
use crate::page::Page;
use crate::pipe::Output;
use crate::plan::Plan;
use crate::report::Destination;

/// The files and the terminal, open: errors appear before the program runs.
#[derive(Default)]
pub(crate) struct Outputs {
    /// The capture of all packets.
    pub capture: Option<Output>,
    /// The HTML page.
    pub page: Option<Page>,
    /// The recorder of the last packets.
    pub flight: Option<FlightRecorder>,
    /// The table.
    pub screen: Option<Screen>,
}

impl Outputs {
    /// Opens all that the plan has.
    pub(crate) fn open(plan: &Plan) -> anyhow::Result<Self> {
        let capture = plan.capture.as_ref().map(|path| {
            let cannot =
                || format!("cannot write the capture to {}: choose another place for -w", path.display());
            Output::create(path).with_context(cannot)
        });
        let screen = match plan.live.as_ref().map(Screen::open).transpose()? {
            Some(Ok(screen)) => Some(screen),
            Some(Err(missing)) => {
                if plan.report.to != Destination::Nowhere {
                    crate::say!("lastack run: {missing}");
                }
                None
            }
            None => None,
        };
        Ok(Self {
            capture: capture.transpose()?,
            page: plan.page.clone().map(Page::create).transpose()?,
            flight: plan.flight.as_ref().map(FlightRecorder::new).transpose()?,
            screen,
        })
    }
}
