use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment::from_secs(1_000_000);

fn config() -> Nodes {
    Nodes { headroom: 0.0, ..Nodes::default() }
}

fn item(cores: f64) -> Item {
    Item { cores, memory: cores * 1e9 }
}

fn node(id: u32, cores: &[f64]) -> Node {
    Node { id, state: State::Serving, items: cores.iter().map(|c| item(*c)).collect(), pinned: false }
}

fn plan(config: &Nodes, wanted: &[f64], nodes: &[Node]) -> NodePlan {
    let items: Vec<_> = wanted.iter().map(|c| item(*c)).collect();
    config.plan(Some(&items), 0.0, nodes, &mut Unneeded::new(), NOW)
}

#[test]
fn items_are_packed_and_the_missing_nodes_are_ordered() {
    let plan = plan(&config(), &[1.5, 0.5, 1.0, 1.0, 0.7], &[node(1, &[])]);
    assert_eq!((plan.needed, plan.add, plan.reason), (3, 2, Reason::Load));
}

#[test]
fn room_is_kept_for_what_may_come_while_a_node_is_on_its_way() {
    let items = [item(0.5); 4];
    let needed = |config: &Nodes, growth| config.plan(Some(&items), growth, &[], &mut Unneeded::new(), NOW).needed;
    assert_eq!(needed(&config(), 0.0), 1);
    assert_eq!(needed(&Nodes::default(), 0.0), 2, "a fifth of headroom");
    assert_eq!(needed(&config(), 0.01), 2, "1 % a second, for 90 s: nearly double");
    assert_eq!(needed(&Nodes { spare: 1, ..config() }, 0.0), 2);
    assert_eq!(needed(&config(), f64::NAN), 1);
}

#[test]
fn an_interruption_notice_orders_the_successor_at_once() {
    let gone = Node { state: State::Leaving, ..node(2, &[1.0]) };
    let first = plan(&config(), &[1.5, 1.0], &[node(1, &[1.5]), gone.clone()]);
    assert_eq!((first.needed, first.add, first.reason), (2, 1, Reason::Interrupted));
    let coming = Node { state: State::Coming { since: NOW }, ..node(3, &[]) };
    let then = plan(&config(), &[1.5, 1.0], &[node(1, &[1.5]), gone, coming]);
    assert_eq!((then.add, then.reason), (0, Reason::Enough), "not twice");
    let late = Node { state: State::Coming { since: NOW.before(Duration::from_secs(271)) }, ..node(3, &[]) };
    assert_eq!(plan(&config(), &[1.5, 1.0], &[node(1, &[1.5]), late]).reason, Reason::Overdue);
}

#[test]
fn only_what_can_drain_goes_and_only_after_a_while() {
    let nodes = [node(1, &[1.0]), node(2, &[0.4]), node(3, &[1.0])];
    let items: Vec<_> = nodes.iter().flat_map(|node| node.items.clone()).collect();
    let mut unneeded = Unneeded::new();
    let mut at = |nodes: &[Node], seconds| {
        config().plan(Some(&items), 0.0, nodes, &mut unneeded, NOW + Duration::from_secs(seconds))
    };
    assert_eq!(at(&nodes, 0).reason, Reason::CannotDrain);
    assert_eq!(at(&nodes, 599).drain, []);
    let plan = at(&nodes, 600);
    assert_eq!((plan.drain, plan.reason), (vec![2], Reason::Drained));
    let pinned: Vec<_> = nodes.iter().map(|node| Node { pinned: true, ..node.clone() }).collect();
    assert_eq!(at(&pinned, 700).reason, Reason::CannotDrain);
    assert_eq!(at(&nodes, 800).reason, Reason::CannotDrain, "the while begins anew");
    // Two halves that fit nowhere else.
    let full = [node(1, &[1.5]), node(2, &[1.5]), node(3, &[1.0])];
    let plan = config().plan(Some(&[item(0.1)]), 0.0, &full, &mut Unneeded::new(), NOW);
    assert_eq!((plan.drain, plan.reason), (vec![], Reason::CannotDrain));
}

#[test]
fn what_is_not_known_takes_nothing_away() {
    let nodes = [node(1, &[]), node(2, &[]), Node { state: State::Leaving, ..node(3, &[]) }];
    let mut unneeded = Unneeded::from([(1, Moment::EPOCH)]);
    let plan = config().plan(None, 0.0, &nodes[..2], &mut unneeded, NOW);
    assert_eq!((plan.needed, plan.add, plan.drain, plan.reason), (2, 0, vec![], Reason::NoMetrics));
    let plan = config().plan(Some(&[item(f64::NAN)]), 0.0, &nodes, &mut unneeded, NOW);
    assert_eq!((plan.needed, plan.add, plan.reason), (3, 1, Reason::Interrupted), "but what leaves is replaced");
}

#[test]
fn what_fits_on_no_node_is_for_the_region_and_the_maximum_holds() {
    let large = plan(&config(), &[5.0, 1.0], &[node(1, &[])]);
    assert_eq!((large.needed, large.too_large), (1, vec![0]));
    let many = plan(&Nodes { max: 3, ..config() }, &[2.0; 9], &[node(1, &[2.0])]);
    assert_eq!((many.needed, many.add, many.reason), (3, 2, Reason::Max));
}

#[test]
fn errors_of_configuration_name_the_key() {
    let text = "min = 3\nmax = 2\ncores = 0\nheadroom = -1\nprovisioning = \"2h\"";
    let keys: Vec<_> =
        toml::from_str::<Nodes>(text).unwrap().validate().unwrap_err().0.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["min", "cores", "headroom", "provisioning"]);
    Nodes::default().validate().unwrap();
}

proptest! {
    #[test]
    fn a_packing_is_never_below_the_volume_nor_far_above(cores in prop::collection::vec(0.0..2.0_f64, 0..60)) {
        let items: Vec<_> = cores.iter().map(|c| item(*c)).collect();
        let (bins, too_large) = config().bins(&items, 0.0);
        let volume = cores.iter().sum::<f64>() / 2.0;
        prop_assert!(too_large.is_empty());
        prop_assert!(bins as f64 >= volume - 1e-9);
        // Any two bins of a first fit hold more than one together.
        prop_assert!(bins as f64 <= 2.0 * volume + 1.0);
    }

    #[test]
    fn what_is_drained_fits_on_the_rest(loads in prop::collection::vec(prop::collection::vec(0.0..0.7_f64, 0..3), 1..8)) {
        let nodes: Vec<_> = loads.iter().enumerate().map(|(i, cores)| node(i as u32, cores)).collect();
        let items: Vec<_> = nodes.iter().flat_map(|node| node.items.clone()).collect();
        let plan = Nodes { unneeded: Duration::ZERO, ..config() }.plan(Some(&items), 0.0, &nodes, &mut Unneeded::new(), NOW);
        let kept = nodes.len() - plan.drain.len();
        prop_assert!(kept >= plan.needed as usize && kept >= 1);
        prop_assert!(items.iter().map(|item| item.cores).sum::<f64>() <= kept as f64 * 2.0 + 1e-9);
    }
}
