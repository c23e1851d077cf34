//! Prints ends.
fn main(){
use lastack_watch::*; use std::time::Duration;
    let secs: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let (mut w, report) = Watcher::open(&WatchOptions::default()).unwrap();
    for r in report { println!("{:?} {:?} {:?}", r.source, r.error, r.limit); }
    let cal=record::Calendar::now();
    let end = now().plus_millis(secs * 1000);
    let show=|e:&Ended|{ println!("{}", line(e,&cal,&jiff::tz::TimeZone::UTC)); if std::env::var_os("J").is_some() {println!("   {}", record::connection(e,&cal))}};
    while now() < end { for e in w.turn(&[], Duration::from_millis(500), |_| ()).unwrap() { show(&e) } }
    for e in w.finish(|_|()).unwrap() { show(&e) }
    println!("{}", summary(w.totals(), w.join().open_connections()));
}
