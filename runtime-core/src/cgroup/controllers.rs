//! Which controllers a cgroup has, and for one that it lacks, why.

/// The controllers that can be used in one cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    names: Vec<String>,
    refused: Vec<(String, String)>,
}

impl Controllers {
    /// From the content of `cgroup.controllers`.
    #[must_use]
    pub fn parse(content: &str) -> Self {
        Self {
            names: content.split_whitespace().map(str::to_owned).collect(),
            refused: Vec::new(),
        }
    }

    /// Whether `name` is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// All of them, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Notes why `name` could not be enabled on the way to this cgroup.
    pub fn refuse(&mut self, name: &str, reason: String) {
        self.refused.push((name.to_owned(), reason));
    }

    /// Why `name` is not there.
    #[must_use]
    pub fn reason(&self, name: &str) -> String {
        match self.refused.iter().find(|(known, _)| known == name) {
            Some((_, reason)) => reason.clone(),
            None => format!("the cgroup v2 hierarchy of this host has no {name} controller"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Controllers;

    #[test]
    fn a_lacking_controller_is_explained() {
        let mut controllers = Controllers::parse("cpu pids\n");
        assert!(controllers.has("cpu"));
        assert!(!controllers.has("memory"));
        assert!(
            controllers
                .reason("memory")
                .contains("no memory controller")
        );
        controllers.refuse(
            "memory",
            "enabling it in /a: device or resource busy".into(),
        );
        assert!(controllers.reason("memory").contains("/a"));
    }

    #[test]
    fn an_empty_hierarchy_has_none() {
        assert!(Controllers::parse("\n").is_empty());
    }
}
