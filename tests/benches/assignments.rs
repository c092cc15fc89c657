//! What it costs that a thousand points ask what they are to hold: 200 packages of 10 files, half of them private, and 10,000
//! devices with keys.
//!
//! `cargo bench -p spsync-tests --bench assignments`. One question after the other, each of another point: as they were answered before
//! tags were kept (every row read, every content asked about), made anew as now, and given again; after a new package too. Then what
//! one device that enrols sends to each point. Without `--bench` it is a small site.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::PackageId;
use jiff::Timestamp;
use schema::distribution::ShelfRow;
use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};
use schema::packages::Access;
use schema::points::{ContentState, Placement, PointRole};
use schema::software::{AppFile, AppRow};
use schema::{SchemaError, Writer};
use serde_json::{Value, json};
use spsync::config::{Loaded, Settings};
use spsync::points::assign::{Form, make, make_whole};
use spsync::points::device_keys;
use spsync::site::Site;
use uuid::Uuid;

const FILES: u32 = 10;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[derive(Clone, Copy)]
struct Size {
    points: u32,
    packages: u32,
    devices: u32,
    /// How long each sort of question is asked.
    for_each: Duration,
}

fn numbered(number: u32) -> [u8; 32] {
    Sha256Digest::of(&number.to_le_bytes()).0
}

fn package(w: &Writer<'_>, number: u32) -> Result<PackageId, SchemaError> {
    let (id, row_number) = w.next_id(&"XYZ".parse().expect("a code"))?;
    let mut files = Vec::new();
    for file in 0..FILES {
        let bytes = numbered(number * FILES + file);
        let content = Sha256Digest(bytes);
        let sha1 = Sha1Digest(std::array::from_fn(|at| bytes[at]));
        w.record_content(content, sha1, 9, false, NOW)?;
        let name = format!("windows11.0-kb{number:07}-x64_{file}.esd");
        files.push(AppFile { file_name: name.parse().expect("a name"), content, size: 9 });
    }
    let name = format!("package {number}");
    let app =
        AppRow { id: id.clone(), name: name.clone(), form: Value::Null, retired: false, created: NOW, files };
    w.create_app(row_number, &app)?;
    w.software_package(&id, "app", &name, NOW)?;
    if number.is_multiple_of(2) {
        w.set_package_access(&id, Access::Public)?;
    }
    Ok(id)
}

fn enrol(w: &Writer<'_>, number: u32) -> Result<(), SchemaError> {
    let hash = Sha256Digest(numbered(u32::MAX - number));
    let keys = NewKeys { key: hash, content: Some(Sha256Digest::of(&hash.0)) };
    let expires = Timestamp::from_second(100).expect("a small number");
    let name = format!("pc-{number:05}");
    w.begin_enrolment(&NewEnrolment { hash, kind: PrincipalKind::Device, name, expires }, NOW)?;
    w.enrol(hash, keys, Uuid::from_u128(u128::from(number)), NOW).map(drop)
}

/// A site of that size; numbers of its points.
async fn site(folder: &std::path::Path, size: Size) -> (Arc<Site>, Vec<i64>) {
    let mut settings = Settings::default();
    settings.site.data_dir = folder.join("site");
    settings.download.min_free = 0;
    let site = Site::open(Loaded::from(settings)).await.expect("a site");
    let setting_up = site.write(move |w| {
        let packages: Vec<_> =
            (0..size.packages).map(|number| package(w, number)).collect::<Result<_, _>>()?;
        (0..size.devices).try_for_each(|number| enrol(w, number))?;
        let mut points = Vec::new();
        for number in 0..size.points {
            let url = format!("http://dp-{number:04}");
            points.push(w.add_point(&format!("dp-{number:04}"), &url, PointRole::Standard)?);
        }
        Ok((packages, points))
    });
    let (packages, points) = setting_up.await.expect("it is written");
    for point in points.clone() {
        let packages = packages.clone();
        let sending = site.write(move |w| {
            for package in &packages {
                w.distribute(package, point, NOW)?;
                let placed = w.placement(package, point)?.expect("it is there");
                let order = w.next_order()?;
                w.put_placement(&Placement { state: ContentState::Success, order, ..placed })?;
            }
            Ok(())
        });
        sending.await.expect("it is written");
    }
    (site, points)
}

/// As it was: everything is read, and of every content it is asked whether it is private.
async fn as_before(site: &Arc<Site>, point: i64) -> usize {
    let read = site.read(move |r| {
        let (points, places) = (r.point_settings()?, r.places()?);
        let own = points.into_iter().find(|row| row.id == point).expect("it is there");
        let file = |row: &ShelfRow| {
            json!({"name": row.file_name, "sha256": row.sha256, "sha1": row.sha1, "size": row.size,
                "private": row.private})
        };
        let mut packages = Vec::new();
        for placed in r.placements_on(point)? {
            let files = r.placed_files(&placed.package, point)?;
            let leaving = r.leaving_files(&placed.package, point)?;
            packages.push(json!({"package": placed.package, "name": placed.name, "version": placed.version,
                "work": placed.work, "order": placed.order, "files": files.iter().map(file).collect::<Vec<_>>(),
                "leaving": leaving.iter().map(file).collect::<Vec<_>>()}));
        }
        let keys = r.content_keys()?;
        let all = json!({"point": own.name, "of": places.len(), "keys": keys, "packages": packages});
        let body = serde_json::to_vec(&all).unwrap_or_default();
        Ok((body.len(), Sha256Digest::of(&body)))
    });
    read.await.expect("it is read").0
}

/// Asks for so long, of one point after the other; questions a second.
async fn rate(points: &[i64], for_so_long: Duration, ask: impl AsyncFn(i64)) -> f64 {
    let (began, mut asked) = (Instant::now(), 0_u32);
    for point in points.iter().cycle() {
        ask(*point).await;
        asked += 1;
        if began.elapsed() >= for_so_long && asked as usize >= points.len().min(20) {
            break;
        }
    }
    f64::from(asked) / began.elapsed().as_secs_f64()
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let size = match quick {
        true => Size { points: 10, packages: 10, devices: 100, for_each: Duration::from_millis(50) },
        false => Size { points: 1_000, packages: 200, devices: 10_000, for_each: Duration::from_secs(10) },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(measure(folder.path(), size));
}

async fn measure(folder: &std::path::Path, size: Size) {
    let began = Instant::now();
    let (site, points) = site(folder, size).await;
    println!(
        "{} points, {} packages of {FILES} files, {} devices: set up in {:.1?}",
        size.points,
        size.packages,
        size.devices,
        began.elapsed()
    );
    let before = rate(&points, size.for_each, async |point| assert!(as_before(&site, point).await > 0)).await;
    println!("as before: {before:.1} questions/s");
    for form in [Form::KeysWithin, Form::KeysApart] {
        let anew = rate(&points, size.for_each, async |point| {
            let made = make_whole(&site, point, form).await.expect("it is made");
            assert!(made.body.is_some());
        });
        println!("{form:?}, made anew: {:.1} questions/s", anew.await);
        // Of each once, so that each is known.
        let made_first = Instant::now();
        for point in &points {
            make(&site, *point, form).await.expect("it is made");
        }
        println!("{form:?}, each for the first time: {:.1?}", made_first.elapsed());
        let again = rate(&points, size.for_each, async |point| {
            let made = make(&site, point, form).await.expect("it is made");
            assert!(made.body.is_none());
        });
        let again = again.await;
        println!("{form:?}, given again: {again:.0} questions/s, {:.0} times as many", again / before);
    }
    // Before, each was made anew for these.
    let number = size.packages;
    site.write(move |w| package(w, number)).await.expect("it is made");
    let asked = rate(&points, size.for_each, async |point| {
        assert!(make(&site, point, Form::KeysApart).await.expect("it is made").body.is_none(), "it is kept");
    });
    println!("after a new package, given again: {:.0} questions/s", asked.await);
    let opening = Instant::now();
    let opened = site.write(|w| w.set_package_access(&"XYZ00002".parse().expect("an id"), Access::Public));
    opened.await.expect("it is written");
    println!("a package that all points have is opened to all: {:.1?}", opening.elapsed());
    let within = make_whole(&site, points[0], Form::KeysWithin).await.expect("it is made");
    let apart = make_whole(&site, points[0], Form::KeysApart).await.expect("it is made");
    let all = device_keys::told(&site, &apart, None).await.expect("they are told");
    site.write(move |w| enrol(w, size.devices)).await.expect("it enrols");
    let after = make(&site, points[0], Form::KeysApart).await.expect("it is made");
    assert!(after.body.is_none(), "nothing else is another");
    let told = device_keys::told(&site, &after, Some(&all.tag)).await.expect("they are told");
    assert_eq!((told.since.as_ref(), told.keys.len()), (Some(&all.tag), 1));
    let length = |value: Option<bytes::Bytes>| value.map_or(0, |body| body.len());
    println!(
        "one device enrols: {} bytes to each point with keys within, {} with keys apart",
        length(within.body),
        serde_json::to_vec(&told).unwrap_or_default().len()
    );
}
