//! Limits on a paused clock.

use tokio::time::{Duration, advance};

use super::{buckets::CONSUMERS_MAX, *};

const LIMIT: Limit = Limit::RequestsPerAddress;

fn rate(count: u32, seconds: u64) -> Rate {
    Rate { count: count.try_into().expect("more than none"), per: Duration::from_secs(seconds) }
}

fn at(address: &str) -> Consumer {
    Consumer::at(address.parse().expect("an address"))
}

fn clients(metrics: &Metrics) -> i64 {
    metrics.limit_clients(LIMIT.setting()).get()
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_emptied_and_filled_again() {
    let buckets = Buckets::new(LIMIT, rate(3, 60), &Metrics::new());
    let (one, other) = (at("192.0.2.1"), at("192.0.2.2"));
    let left: Vec<_> = (0..3).map(|_| buckets.take(&one).expect("room").count).collect();
    assert_eq!(left, [2, 1, 0]);
    let exceeded = buckets.take(&one).expect_err("it is empty");
    assert_eq!(exceeded.wait, Some(Duration::from_secs(20)));
    assert_eq!(exceeded.to_string(), "The limit is 3 in 60 seconds, by the setting requests-per-address.");
    assert!(buckets.take(&other).is_ok(), "another client has its own");

    advance(Duration::from_secs(19)).await;
    assert_eq!(buckets.take(&one).expect_err("not yet").wait, Some(Duration::from_secs(1)), "a refusal costs nothing");
    advance(Duration::from_secs(1)).await;
    assert_eq!(buckets.take(&one).expect("one more").count, 0);
    advance(Duration::from_secs(600)).await;
    assert_eq!(buckets.take(&one).expect("all").count, 2, "it holds no more than that");
}

#[tokio::test(start_paused = true)]
async fn buckets_that_are_full_again_are_forgotten_and_there_are_never_too_many() {
    let metrics = Metrics::new();
    let buckets = Buckets::new(LIMIT, rate(2, 60), &metrics);
    let nth = |nth: u32| Consumer::Address(IpAddr::from(nth.to_be_bytes()));
    let known = nth(0);
    assert!(buckets.take(&known).is_ok());
    for new in 1..CONSUMERS_MAX as u32 * 2 {
        let _counted = buckets.take(&nth(new));
    }
    let kept = clients(&metrics);
    assert!(kept as usize <= CONSUMERS_MAX && kept as usize > CONSUMERS_MAX / 2, "{kept}");
    assert!(buckets.take(&nth(u32::MAX)).is_err(), "those who find no room share what one has");
    assert!(buckets.take(&known).is_ok(), "who is known is not touched");
    assert!(buckets.take(&known).is_err());

    advance(Duration::from_secs(60)).await;
    for new in 0..10_000 {
        assert!(buckets.take(&nth(1 << 24 | new)).is_ok(), "there is room again");
    }
    assert!(clients(&metrics) < 30_000, "{}", clients(&metrics));
}

#[test]
fn a_network_of_64_bits_is_one_client() {
    assert_eq!(at("2001:db8::1"), at("2001:db8:0:0:ffff:ffff:ffff:ffff"));
    assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
}

#[test]
fn places_are_given_back() {
    let slots = Slots::new(Limit::StreamsPerAddress, 2);
    let (one, other) = (at("192.0.2.1"), at("192.0.2.2"));
    let taken = [slots.take(one.clone()).expect("room"), slots.take(one.clone()).expect("room")];
    let exceeded = slots.take(one.clone()).expect_err("no room");
    assert_eq!(exceeded.to_string(), "The limit is 2 at once, by the setting max-streams-per-address.");
    assert!(slots.take(other).is_ok(), "another client has its own");
    assert_eq!(slots.consumers(), 1, "who holds nothing is forgotten");
    drop(taken);
    assert!(slots.take(one).is_ok());
    assert_eq!(slots.consumers(), 0);
}

#[tokio::test(start_paused = true)]
async fn headers_are_structured_fields() {
    let buckets = Buckets::new(LIMIT, rate(100, 60), &Metrics::new());
    let [policy, left] = buckets.take(&at("192.0.2.1")).expect("room").fields().expect("headers");
    assert_eq!(policy, "\"requests-per-address\";q=100;w=60");
    assert_eq!(left, "\"requests-per-address\";r=99;t=1");
    assert_eq!([0, 1, 999, 1000, 1001].map(|ms| whole_seconds(Duration::from_millis(ms))), [0, 1, 1, 1, 2]);
}
