//! Ends of sentences, with a bar at each in the examples.

use crate::rouge::sentences::{in_lines, sentences};

#[test]
fn ends_of_sentences() {
    for marked in [
        "The lake froze.|Nobody skated.",
        "Is it cold?|It is!|Very cold.",
        "\"Really?\"|he asked.|\"Yes.\"|She left.",
        "He said (in 2009.)|Then he left.",
        "“It is over.”|The match ended.",
        "Mr. Smith met Dr. J. R. Jones at St. Paul's.|They talked.",
        "The U.S. Senate met at 9 a.m. Friday.|It voted.",
        "She lives in the U.S.|The others do not.",
        "It was the work of Apple Inc.|But nobody knew.",
        "Lt.-Gen. Brown spoke.",
        "It cost $3.50.|Prices rose 1.5 percent in 2009.|Nobody paid.",
        "It was the 5. in the list.",
        "Wait ... for it.|Well ...|The end.",
        "What?!|No.",
        "One line\nbroken in two .|Another one .",
        "See example.com or v2.0 for more",
        "Dogs bark .|Cats do not",
        "Älter.|Ärger etc. gab es.",
        "naïve.|\u{3000}Ünder",
    ] {
        let text = marked.replace('|', " ");
        assert_eq!(sentences(&text).join("|"), marked.replace("\u{3000}", ""), "{text}");
    }
    assert!(sentences(" \n ").is_empty());
    assert_eq!(sentences("..."), ["..."]);
    assert_eq!(in_lines("  One. Two.\n"), "One.\nTwo.");
}
