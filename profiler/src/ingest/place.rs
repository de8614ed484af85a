//! On which line of a file a service, pod or container stands: for those who show findings beside the text.
//!
//! YAML readers forget where things stood, so the text is asked. What is not written as people write it is on the first line.

/// The line, from 1, of a service of a compose file, of `KIND/NAME` of a manifest, or of `KIND/NAME container NAME`; 1 when it is not found.
#[must_use]
pub fn line_of(text: &str, subject: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let (object, container) = match subject.split_once(" container ") {
        Some((object, container)) => (object, Some(container)),
        None => (subject, None),
    };
    let found = match object.split_once('/') {
        Some((kind, name)) => of_object(&lines, kind, name, container),
        None => of_service(&lines, subject),
    };
    found.map_or(1, |index| index + 1)
}

/// The key below `services`, as far in as the first one.
fn of_service(lines: &[&str], name: &str) -> Option<usize> {
    let is_top = |line: &str| indent(line) == 0 && value(line, "services").is_some();
    let services = lines.iter().position(|line| is_top(line))?;
    let below = |line: &&str| is_text(line) && indent(line) > 0;
    let first = lines.iter().skip(services + 1).find(|line| is_text(line))?;
    let is_service = |line: &&str| indent(line) == indent(first) && value(line, name).is_some();
    let block = lines.iter().enumerate().skip(services + 1);
    let mut block = block.take_while(|(_, line)| below(line) || !is_text(line));
    block.find(|(_, line)| below(line) && is_service(line)).map(|(index, _)| index)
}

/// The document that has this kind and name, or in it the container below `containers` or `initContainers`.
fn of_object(lines: &[&str], kind: &str, name: &str, container: Option<&str>) -> Option<usize> {
    let mut start = 0;
    for document in lines.split(|line| line.starts_with("---")) {
        let position =
            |key: &str, of: &str| document.iter().position(|line| value(line, key) == Some(of));
        if let (Some(at), Some(_)) = (position("kind", kind), position("name", name)) {
            let Some(container) = container else { return Some(start + at) };
            let is_list = |line: &str| {
                ["containers", "initContainers"].iter().any(|key| value(line, key) == Some(""))
            };
            let list = document.iter().position(|line| is_list(line))?;
            let mut names = document.iter().enumerate().skip(list);
            let found = names.find(|(_, line)| value(line, "name") == Some(container));
            return found.map(|(index, _)| start + index);
        }
        start += document.len() + 1;
    }
    None
}

/// The value of a key on its line, without quotes; empty when it stands below.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let line = line.trim_start_matches([' ', '-']);
    let rest = ['"', '\'']
        .into_iter()
        .find_map(|quote| line.strip_prefix(quote)?.strip_prefix(key)?.strip_prefix(quote))
        .or_else(|| line.strip_prefix(key))?;
    let value = rest.trim_start().strip_prefix(':')?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']))
}

fn is_text(line: &str) -> bool {
    !matches!(line.trim_start().chars().next(), None | Some('#'))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_where_its_key_is() {
        let text = "# web:\nname: web\nservices:\n  # db:\n\n  'web':\n    depends_on:\n      db: {}\n  db: # web\n    image: x\nvolumes:\n  data: {}\n";
        let of = |name| line_of(text, name);
        assert_eq!((of("web"), of("db")), (6, 9));
        assert_eq!((of("data"), of("we"), of("")), (1, 1, 1));
        assert_eq!(line_of("{\"services\": {\"web\": {}}}", "web"), 1);
        assert_eq!(line_of("services:\n", "web"), 1);
    }

    #[test]
    fn a_container_is_where_its_name_is_in_its_document() {
        let pod = |name: &str| {
            format!(
                "kind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - image: x\n    name: \"app\"\n"
            )
        };
        let text = format!("---\n{}---\n{}", pod("one"), pod("two"));
        let of = |subject| line_of(&text, subject);
        assert_eq!((of("Pod/one"), of("Pod/one container app")), (2, 8));
        assert_eq!((of("Pod/two"), of("Pod/two container app")), (10, 16));
        assert_eq!((of("Pod/three container app"), of("Job/one container app")), (1, 1));
        assert_eq!(of("Pod/one container two"), 1);
    }
}
