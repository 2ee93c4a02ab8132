//! The small floats of kernels are those of files: one rule, written twice because neither crate needs the other.

use paring_format::{Dtype, Element, QuantArgs, Strategy, floats};
use paring_kernels::minifloat;
use paring_kernels::sweep::{self, GridFormat};

use crate::methods::Stored;
use crate::plan::Rounding;

/// Every f32 whose lower half is zero or one of a few others: all exponents, signs, ties and what is beside them.
fn numbers() -> impl Iterator<Item = f32> {
    let lower = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bits = (0..=u32::from(u16::MAX)).flat_map(move |upper| lower.map(|lower| upper << 16 | lower));
    bits.map(f32::from_bits).filter(|x| !x.is_nan())
}

fn format(element: Element) -> GridFormat {
    let args = QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(element) };
    crate::methods::grids::format(&Rounding::of(&args), &Stored::plain(Dtype::F32), &[])
}

#[test]
fn all_codes_stand_for_the_same_numbers() {
    for (element, codes) in [(Element::E4m3, 256), (Element::E2m3, 64), (Element::E2m1, 16)] {
        let format = format(element);
        for code in 0..codes {
            let number = element.value(code as u8 as i8);
            if number.is_nan() {
                assert!(element == Element::E4m3 && code & 0x7f == 0x7f);
                continue;
            }
            assert_eq!(format.encode(number, 1.0, 0.0).to_bits(), number.to_bits(), "{element:?} {code}");
            assert_eq!(u16::from(format.code(number)), code, "{element:?}");
        }
    }
    let largest = [minifloat::E4M3_MAX, minifloat::E2M3_MAX, minifloat::E2M1_MAX];
    assert_eq!(largest, [floats::E4M3_MAX, floats::E2M3_MAX, floats::E2M1_MAX]);
}

#[test]
fn all_numbers_get_the_same_codes() {
    let (eight, six, four) = (format(Element::E4m3), format(Element::E2m3), format(Element::E2m1));
    assert_eq!((eight.element, four.element), (sweep::Element::E4m3, sweep::Element::E2m1));
    for x in numbers() {
        assert_eq!(eight.code(minifloat::e4m3(x)), floats::to_e4m3(x), "{x:e}");
        assert_eq!(six.code(minifloat::e2m3(x)), floats::to_e2m3(x), "{x:e}");
        // Nothing but a zero differs: files have none with the sign of the weight -0.
        let expected = if x == 0.0 { u8::from(x.is_sign_negative()) << 3 } else { floats::to_e2m1(x) };
        assert_eq!(four.code(minifloat::e2m1(x)), expected, "{x:e}");
    }
}
