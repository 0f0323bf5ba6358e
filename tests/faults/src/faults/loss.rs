//! Packets that get lost by chance. Seen by: the rules have dropped packets.

use super::partition::Cut;
use super::{Kind, Need, Target, World};
use crate::lab::{Loss, Port};
use rand::RngExt;

/// At one node, and everywhere.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            name: "loss-leader",
            group: "loss",
            about: "10 to 40 % of all packets from and to a leader are lost",
            need: Need::Nothing,
            inject: Box::new(|world, tag| {
                let node = world.target(Target::Leader)?;
                let percent = world.random.random_range(10..=40);
                let one = vec![Port::Node(node)];
                let others: Vec<Port> = everyone(world).into_iter().filter(|p| *p != Port::Node(node)).collect();
                let losses =
                    [Loss { from: one.clone(), to: others.clone(), percent }, Loss { from: others, to: one, percent }];
                let detail = format!("{percent} % at {}", world.role(node));
                Cut::begin(world, tag, detail, &losses)
            }),
        },
        Kind {
            name: "loss-everywhere",
            group: "loss",
            about: "2 to 10 % of all packets are lost",
            need: Need::Nothing,
            inject: Box::new(|world, tag| {
                let percent = world.random.random_range(2..=10);
                let all = everyone(world);
                Cut::begin(world, tag, format!("{percent} %"), &[Loss { from: all.clone(), to: all, percent }])
            }),
        },
    ]
}

fn everyone(world: &World) -> Vec<Port> {
    Port::all(i32::try_from(world.nodes.ids().len()).unwrap_or(i32::MAX))
}
