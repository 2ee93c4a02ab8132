//! The one bridge between the elements of files and those of kernels, which must not know of files.

use paring_format::Element;
use paring_kernels::element;

/// The element of a file as kernels know it.
pub fn kernel_element(element: Element) -> element::Element {
    match element {
        Element::Int(bits) => element::Element::Int(bits),
        Element::E4m3 => element::Element::E4m3,
        Element::E2m3 => element::Element::E2m3,
        Element::E2m1 => element::Element::E2m1,
    }
}
