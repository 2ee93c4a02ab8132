//! Several examples in one window.

use super::{Example, TrainingSet};

/// The free tokens of windows, in a tree whose nodes have the most of their two children: the first window with room is found in
/// a time logarithmic in their number.
struct Free {
    nodes: Vec<usize>,
    leaves: usize,
}

impl Free {
    fn new(windows: usize, each: usize) -> Self {
        let leaves = windows.next_power_of_two();
        Self { nodes: vec![each; 2 * leaves], leaves }
    }

    /// Takes `tokens` from the first window that has them, which is returned.
    fn take(&mut self, tokens: usize) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node = 2 * node + usize::from(self.nodes[2 * node] < tokens);
        }
        let window = node - self.leaves;
        self.nodes[node] = self.nodes[node].saturating_sub(tokens);
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node].max(self.nodes[2 * node + 1]);
        }
        window
    }
}

impl TrainingSet {
    /// Joins several examples in each window: first fit, in their order. Attention sees no borders between them. Takes n log n time.
    pub fn pack(&mut self) {
        let examples = std::mem::take(&mut self.windows);
        let mut free = Free::new(examples.len().max(1), self.seqlen);
        for Example { ids, learned } in examples {
            let at = free.take(ids.len());
            if at >= self.windows.len() {
                self.windows.resize_with(at + 1, Example::default);
            }
            let window = &mut self.windows[at];
            window.ids.extend(ids);
            window.learned.extend(learned);
        }
    }
}
