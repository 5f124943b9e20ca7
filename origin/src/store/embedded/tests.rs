//! The contract, and what a damaged or interrupted disk leaves.

use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::store::contract;

fn open(path: &Path) -> Embedded {
    Embedded::open(path, Arc::new(SystemTime::now)).unwrap()
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

async fn put(store: &Embedded, name: &str, content: &[u8]) -> Written {
    let attributes = Attributes { content_type: Some("text/plain".to_owned()), cache_control: None };
    store.put(&key(name), content.to_vec().into(), PutMode::Overwrite, attributes).await.unwrap()
}

async fn read(store: &Embedded, name: &str, range: Option<Range<u64>>) -> Result<Bytes, super::super::BoxError> {
    store.get(&key(name), range).await?.body.collect(64 << 20).await
}

fn is_corrupt(error: &super::super::BoxError) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Corrupt { .. }))
}

#[tokio::test]
async fn embedded_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract::all(Arc::new(open(folder.path()))).await;
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn what_was_put_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let written = put(&open(folder.path()), "a/b", b"kept").await;
    let store = open(folder.path());
    assert_eq!(read(&store, "a/b", None).await.unwrap(), "kept");
    let (meta, attributes) = store.head(&key("a/b")).await.unwrap();
    assert_eq!((meta.etag, attributes.content_type.as_deref()), (written.etag, Some("text/plain")));
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_never_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let content: Vec<u8> = (0..150_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    put(&store, "a", &content).await;
    let path = store.root.object(&key("a"));
    let whole = fs::read(&path).unwrap();
    // Every byte of the borders of blocks and of the trailer, and a sample of the rest.
    let block = (file::BLOCK_BYTES + 4) as usize;
    let near = |i: usize| i % block < 6 || i % block > block - 3 || i + 400 > whole.len() || i.is_multiple_of(1009);
    for at in (0..whole.len()).filter(|i| near(*i)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        let error = read(&store, "a", None).await.expect_err("damage must be seen");
        assert!(is_corrupt(&error), "byte {at}: {error}");
        // A range that does not touch the damage may be served, but only as it was written.
        match read(&store, "a", Some(70_000..70_100)).await {
            Ok(bytes) => assert_eq!(bytes, content[70_000..70_100]),
            Err(error) => assert!(is_corrupt(&error), "byte {at}: {error}"),
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read(&store, "a", None).await.unwrap(), content);
}

#[tokio::test]
async fn a_file_cut_or_grown_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", &[9; 140_000]).await;
    let path = store.root.object(&key("a"));
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).filter(|i| i.is_multiple_of(997) || i + 300 > whole.len()) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(is_corrupt(&read(&store, "a", None).await.expect_err("it is torn")), "{length} bytes");
    }
    fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
    assert!(is_corrupt(&read(&store, "a", None).await.expect_err("it is doubled")));
    fs::write(&path, vec![0; whole.len()]).unwrap();
    assert!(is_corrupt(&read(&store, "a", None).await.expect_err("it is zeroed")));
    put(&store, "a", b"put again").await;
    assert_eq!(read(&store, "a", None).await.unwrap(), "put again");
}

#[tokio::test]
async fn another_objects_file_or_block_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", &[1; 140_000]).await;
    put(&store, "b", &[2; 140_000]).await;
    let (a, b) = (store.root.object(&key("a")), store.root.object(&key("b")));
    let block = (file::BLOCK_BYTES + 4) as usize;
    let (whole_a, whole_b) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, [&whole_b[..block], &whole_a[block..]].concat()).unwrap();
    assert!(is_corrupt(&read(&store, "a", None).await.expect_err("a block of b")));
    fs::write(&a, [&whole_a[block..2 * block], &whole_a[..block], &whole_a[2 * block..]].concat()).unwrap();
    assert!(is_corrupt(&read(&store, "a", None).await.expect_err("blocks in another order")));
    fs::write(&a, &whole_b).unwrap();
    assert!(is_corrupt(&read(&store, "a", None).await.expect_err("the file of b")));
    let update = store.put(&key("a"), vec![3].into(), PutMode::Update("x".into()), Attributes::default()).await;
    assert!(matches!(update, Err(StoreError::Corrupt { .. })), "{update:?}");
}

#[tokio::test]
async fn opening_removes_what_dead_writers_left_and_spares_living_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fs::write(folder.path().join("tmp/999999-0"), b"half a block").unwrap();
    let living = store.root.begin(&key("a")).unwrap();
    let again = open(folder.path());
    assert!(!folder.path().join("tmp/999999-0").exists());
    let (tmp, meta) = living.finish(SystemTime::now(), Attributes::default()).unwrap();
    store.root.commit(&key("a"), tmp, &PutMode::Create).unwrap();
    assert_eq!(again.head(&key("a")).await.unwrap().0.etag, meta.etag);
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_is_finished_but_not_renamed_yet_is_spared_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (tmp, _) = store.root.begin(&key("a")).unwrap().finish(SystemTime::now(), Attributes::default()).unwrap();
    open(folder.path());
    store.root.commit(&key("a"), tmp, &PutMode::Create).unwrap();
    assert!(store.head(&key("a")).await.is_ok());
}

#[tokio::test]
async fn a_store_may_lie_in_folders_that_are_not_there_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/c");
    put(&open(&path), "x", b"kept").await;
    assert_eq!(read(&open(&path), "x", None).await.unwrap(), "kept");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = stream::once(async { Ok(Bytes::from(vec![0; 2 << 20])) });
    let body = Body::new(first.chain(stream::pending()));
    let name = key("a");
    let mut put = Box::pin(store.put(&name, body, PutMode::Overwrite, Attributes::default()));
    let tmp = folder.path().join("tmp");
    while fs::read_dir(&tmp).unwrap().count() == 0 {
        assert!(futures::poll!(&mut put).is_pending());
        tokio::task::yield_now().await;
    }
    drop(put);
    while fs::read_dir(&tmp).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(store.head(&name).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn two_openings_of_one_folder_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [open(folder.path()), open(folder.path())];
    let racers = (0..20_u8).map(|n| {
        let store = stores[usize::from(n % 2)].clone();
        tokio::spawn(async move { store.put(&key("a"), vec![n].into(), PutMode::Create, Attributes::default()).await })
    });
    let outcomes = futures::future::join_all(racers).await;
    assert_eq!(outcomes.iter().filter(|o| o.as_ref().unwrap().is_ok()).count(), 1);
}

#[test]
fn a_folder_that_holds_something_else_is_refused() {
    let clock = || -> Clock { Arc::new(SystemTime::now) };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), b"x").unwrap();
    let error = Embedded::open(folder.path(), clock()).unwrap_err();
    assert!(error.to_string().contains("neither empty nor an object store"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FORMAT"), b"skerry objects 99\n").unwrap();
    let error = Embedded::open(folder.path(), clock()).unwrap_err();
    assert!(error.to_string().contains("another release"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_content_comes_back_whole_and_in_any_range(
        content in prop::collection::vec(any::<u8>(), 0..3000),
        repeat in 1_usize..80,
        cut in any::<(u32, u32)>(),
        step in 1_usize..100_000,
    ) {
        let content = content.repeat(repeat);
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let chunks: Vec<_> = content.chunks(step).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let body = Body::new(stream::iter(chunks));
            store.put(&key("a"), body, PutMode::Create, Attributes::default()).await.unwrap();
            assert_eq!(read(&store, "a", None).await.unwrap(), content);
            let length = content.len() as u64;
            if length > 0 {
                let (a, b) = (u64::from(cut.0) % length, u64::from(cut.1) % length);
                let range = a.min(b)..a.max(b) + 1;
                let bytes = read(&store, "a", Some(range.clone())).await.unwrap();
                assert_eq!(bytes, content[range.start as usize..range.end as usize]);
            }
        });
    }
}
