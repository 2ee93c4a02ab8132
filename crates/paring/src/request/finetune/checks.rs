//! Checks of a fine-tuning before its work.

use paring_format::message;

use crate::Result;
use crate::finetune::targeted;
use crate::plan::Opt;
use crate::request::sources::Model;

/// Errors where a target is the end of no linear's path.
pub(super) fn known_targets(student: &Model, targets: &[String]) -> Result<()> {
    let linears: Vec<_> = (0..student.decoder.blocks()).flat_map(|i| student.decoder.linears(i)).collect();
    for target in targets {
        if !linears.iter().any(|linear| targeted(std::slice::from_ref(target), &linear.name)) {
            let linears = student.decoder.linears(0);
            let names: Vec<&str> = linears.iter().filter_map(|linear| linear.name.rsplit('.').next()).collect();
            let problem =
                format!("targets={target}: no linear of the blocks is called so; there are {}", names.join(", "));
            return Err(Opt::Lora.misfit(message![Opt::Lora, ": ", problem]));
        }
    }
    Ok(())
}

/// Errors where a teacher does not speak the student's tokens, or has other states where these are compared.
pub(super) fn fits(student: &Model, teacher: &Model, states: bool) -> Result<()> {
    let sizes = |model: &Model| model.decoder.sizes();
    let (ours, theirs) = (sizes(student), sizes(teacher));
    let fail = |what: &str, got: usize, expected: usize| {
        let problem = message![Opt::Teacher, format!(": the teacher has {got} {what}, and the model has {expected}")];
        Err(Opt::Teacher.misfit(problem).hint("name the dense model that it was made of"))
    };
    if ours.vocab != theirs.vocab {
        return fail("token ids", theirs.vocab, ours.vocab);
    }
    if states && ours.dim != theirs.dim {
        return fail("features", theirs.dim, ours.dim);
    }
    if ours.blocks != theirs.blocks {
        return fail("blocks", theirs.blocks, ours.blocks);
    }
    Ok(())
}
